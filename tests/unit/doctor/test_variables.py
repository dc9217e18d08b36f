"""The variables that are looked at, and those that are none of our business."""

from __future__ import annotations

import pytest

from corestream.doctor.variables import AFFINITY_VARIABLES, affinity_settings, relevant
from corestream.runtime import environment


def test_the_table_is_the_runtimes():
    assert AFFINITY_VARIABLES == environment.AFFINITY_VARIABLES
    known = relevant(dict.fromkeys(environment.RELEVANT_VARIABLES, "x"))
    assert set(known) == set(environment.RELEVANT_VARIABLES)


def test_secrets_are_not_kept():
    environ = {"AWS_SECRET": "s", "OMP_PLACES": "cores", "RAY_TOKEN": "s", "PATH": "/bin"}
    assert relevant(environ) == {"OMP_PLACES": "cores", "RAY_TOKEN": ""}


@pytest.mark.parametrize(
    ("environ", "runtime", "found"),
    [
        ({"OMP_PROC_BIND": "close"}, "libgomp", ("OMP_PROC_BIND=close",)),
        ({"OMP_PROC_BIND": "FALSE", "KMP_AFFINITY": "none"}, None, ()),
        ({"KMP_AFFINITY": "compact"}, "libgomp", ()),
        ({"KMP_AFFINITY": "compact"}, "libiomp5", ("KMP_AFFINITY=compact",)),
        ({"GOMP_CPU_AFFINITY": "0", "OMP_PLACES": ""}, None, ("GOMP_CPU_AFFINITY=0",)),
    ],
)
def test_what_moves_threads(environ, runtime, found):
    assert affinity_settings(environ, runtime) == found
