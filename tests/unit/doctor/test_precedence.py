"""Who set the number of threads; the rows were seen on torch 2.13 with MKL, on two cores."""

from __future__ import annotations

import pytest

from corestream.doctor.precedence import (
    API,
    DEFAULT,
    expected_intra_op,
    invalid_settings,
    origin_of,
    settings,
)


def origin(actual: int, *, num_cores: int = 2, num_cpus: int = 4, has_mkl: bool = True, **environ):
    return origin_of(actual, environ, num_cores=num_cores, num_cpus=num_cpus, has_mkl=has_mkl)


@pytest.mark.parametrize(
    ("actual", "environ", "source"),
    [
        (2, {}, DEFAULT),
        (4, {}, DEFAULT),  # without MKL torch counts CPUs
        (3, {}, API),
        (1, {"OMP_NUM_THREADS": "1"}, "OMP_NUM_THREADS=1"),
        (1, {"MKL_NUM_THREADS": "1"}, "MKL_NUM_THREADS=1"),
        (1, {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "1"}, "MKL_NUM_THREADS=1"),
        (2, {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "3"}, "MKL_NUM_THREADS=3"),
        (2, {"OMP_NUM_THREADS": "4,2"}, "OMP_NUM_THREADS=4"),
        (5, {"MKL_NUM_THREADS": "5", "MKL_DYNAMIC": "false"}, "MKL_NUM_THREADS=5"),
        (1, {"MKL_NUM_THREADS": "0", "OMP_NUM_THREADS": "1"}, "OMP_NUM_THREADS=1"),
        (
            1,
            {"MKL_DOMAIN_NUM_THREADS": "MKL_DOMAIN_ALL=1", "MKL_NUM_THREADS": "2"},
            "MKL_DOMAIN_NUM_THREADS=1",
        ),
        (2, {"OMP_NUM_THREADS": "abc"}, DEFAULT),
        (2, {"OMP_NUM_THREADS": "1"}, API),
        (2, {"OMP_NUM_THREADS": "5", "MKL_DYNAMIC": "FALSE"}, API),
    ],
)
def test_the_source_is_named(actual, environ, source):
    assert origin(actual, **environ).source == source


def test_a_cap_is_explained():
    assert "2 cores" in origin(2, OMP_NUM_THREADS="3").note
    assert origin(3, OMP_NUM_THREADS="3").note == ""


def test_what_lost_is_named():
    assert origin(1, MKL_NUM_THREADS="1", OMP_NUM_THREADS="3").overruled == ("OMP_NUM_THREADS=3",)
    assert origin(7, MKL_NUM_THREADS="1", OMP_NUM_THREADS="3").overruled == (
        "MKL_NUM_THREADS=1",
        "OMP_NUM_THREADS=3",
    )
    assert origin(1, MKL_NUM_THREADS="1", OMP_NUM_THREADS="1").overruled == ()


def test_without_mkl_openmps_variable_comes_first():
    both = {"MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "3"}
    assert settings(both, has_mkl=False) == [("OMP_NUM_THREADS", 3), ("MKL_NUM_THREADS", 1)]
    assert origin(3, has_mkl=False, **both).source == "OMP_NUM_THREADS=3"


def test_expected_is_what_torch_would_take():
    assert expected_intra_op({}, num_cores=8) == 8
    assert expected_intra_op({"OMP_NUM_THREADS": "3"}, num_cores=8) == 3
    assert expected_intra_op({"OMP_NUM_THREADS": "30"}, num_cores=8) == 8
    assert expected_intra_op({"MKL_NUM_THREADS": "9", "MKL_DYNAMIC": "0"}, num_cores=8) == 9


def test_settings_that_nobody_understands():
    assert invalid_settings({"OMP_NUM_THREADS": "0", "MKL_NUM_THREADS": "2"}) == (
        "OMP_NUM_THREADS=0",
    )
    assert invalid_settings({"OMP_NUM_THREADS": "", "MKL_NUM_THREADS": "4,2"}) == ()
