"""What is wrong with the surroundings is found, named, and said once."""

from __future__ import annotations

import warnings

import pytest

from corestream.errors import CorestreamWarning
from corestream.runtime import environment
from corestream.runtime.environment import current_problems, find_problems, warn_of_problems

LIBGOMP = "/venv/torch/lib/libgomp.so.1"
OTHER = "/venv/scikit_learn.libs/libgomp-a34b3233.so.1.0.0"
LIBIOMP5 = "/venv/lib/libiomp5.so"


def problems(**found) -> list[str]:
    """Of a process on 4 CPUs with nothing wrong, besides what is `found`."""
    usual = {
        "environ": {},
        "kind": "libgomp",
        "startup": [0, 1, 2, 3],
        "online": 4,
        "runtimes": [LIBGOMP],
    }
    return find_problems(**(usual | found))


def test_nothing_wrong():
    assert problems() == []


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("libgomp", "OMP_PROC_BIND", "true"),
        ("libgomp", "OMP_PLACES", "cores"),
        ("libgomp", "GOMP_CPU_AFFINITY", "0-3"),
        ("libgomp", "GOMP_CPU_AFFINITY", "0"),  # a CPU, not "off"
        ("libiomp5", "KMP_AFFINITY", "granularity=fine,compact"),
        ("libomp", "KMP_AFFINITY", "scatter"),
        ("libiomp5", "OMP_PROC_BIND", "close"),
    ],
)
def test_a_variable_that_narrowed_the_mask_is_named(kind, name, value):
    (text,) = problems(kind=kind, environ={name: value}, startup=[0])
    assert f"{name}={value}" in text
    assert f"{kind} narrowed the main thread" in text
    assert "all 4 allowed CPUs" in text
    assert "to 1; unset it" in text


def test_all_such_variables_are_named():
    environ = {"OMP_PLACES": "cores", "OMP_PROC_BIND": "close", "OMP_NUM_THREADS": "4"}
    (text,) = problems(environ=environ, startup=[0, 1])
    assert "got OMP_PROC_BIND=close OMP_PLACES=cores, with" in text


@pytest.mark.parametrize(
    ("environ", "startup"),
    [
        ({"OMP_PROC_BIND": "true"}, [0, 1, 2, 3]),  # the mask is whole
        ({"OMP_PROC_BIND": "FALSE"}, [0]),  # off
        ({"OMP_PLACES": ""}, [0]),
        ({"OMP_PROC_BIND": "0"}, [0]),
        ({"KMP_AFFINITY": "compact"}, [0]),  # libgomp does not read it
        ({"OMP_NUM_THREADS": "1"}, [0]),  # moves nobody
        ({}, [0]),  # taskset, say
    ],
)
def test_what_narrows_nothing_is_no_problem(environ, startup):
    assert problems(environ=environ, startup=startup) == []


def test_two_runtimes_are_named_with_their_paths():
    (text,) = problems(runtimes=[LIBGOMP, OTHER])
    assert f"got {LIBGOMP}, {OTHER}" in text


def test_a_preloaded_runtime_serves_all_callers():
    environ = {"LD_PRELOAD": f"/lib/libjemalloc.so:{LIBIOMP5}"}
    runtimes = [LIBGOMP, LIBIOMP5]
    assert problems(kind="libiomp5", runtimes=runtimes, environ=environ) == []
    assert len(problems(runtimes=runtimes, environ={"LD_PRELOAD": "/lib/libjemalloc.so"})) == 1


def test_two_problems_are_two_texts():
    assert len(problems(environ={"OMP_PLACES": "0"}, startup=[0], runtimes=[LIBGOMP, OTHER])) == 2


def test_this_process_has_no_problem():
    assert current_problems() == []


def test_each_problem_is_warned_of_once(monkeypatch):
    texts = ["the first", "the second"]
    monkeypatch.setattr(environment, "_warned", set())
    monkeypatch.setattr(environment, "current_problems", lambda: texts)
    with pytest.warns(CorestreamWarning) as caught:
        warn_of_problems()
    assert [str(warning.message) for warning in caught] == texts
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always")
        warn_of_problems()
        texts.append("the third")
        warn_of_problems()
    assert [str(warning.message) for warning in again] == ["the third"]
