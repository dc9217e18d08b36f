"""The variables that are looked at, and those that are none of our business."""

from __future__ import annotations

from corestream.doctor.variables import relevant
from corestream.runtime import environment


def test_what_the_runtime_reports_is_looked_at():
    known = relevant(dict.fromkeys(environment.RELEVANT_VARIABLES, "x"))
    assert set(known) == set(environment.RELEVANT_VARIABLES)


def test_secrets_are_not_kept():
    environ = {"AWS_SECRET": "s", "OMP_PLACES": "cores", "RAY_TOKEN": "s", "PATH": "/bin"}
    assert relevant(environ) == {"OMP_PLACES": "cores", "RAY_TOKEN": ""}
