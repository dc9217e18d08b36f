"""Which candidate is kept, given what each took."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from corestream.measure import Timing

pytestmark = pytest.mark.needs_build


def candidate(name, *, weight_bytes):
    from corestream.lowering.chooser import _Candidate

    artifact = SimpleNamespace(
        backend=name, holds_gil=name == "eager", weight_bytes=weight_bytes, extra_bytes=0
    )
    return _Candidate(name, "", None, artifact, task=None, difference=None, warnings=())


@pytest.mark.parametrize(
    ("large", "small", "chosen"),
    [
        ((1.00, 1.00, 1.00), (1.03, 1.03, 1.03), "large"),
        ((1.00, 1.00, 1.00), (1.005, 1.005, 1.005), "small"),
        ((1.00, 1.00, 1.00), (0.9, 0.9, 0.9), "small"),
        # A machine that slows down for a round: the quotients of the rounds decide.
        ((1.00, 2.00, 1.00, 1.00), (1.03, 2.06, 1.03, 1.03), "large"),
    ],
)
def test_the_fastest_is_kept_and_of_equals_the_one_that_needs_least(large, small, chosen):
    from corestream.lowering.chooser import _best

    usable = [candidate("large", weight_bytes=200), candidate("small", weight_bytes=100)]
    timings = {"large": Timing(large), "small": Timing(small)}
    assert _best(usable, timings).name == chosen
