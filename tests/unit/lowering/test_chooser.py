"""Which candidate is kept, given what each took."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import corestream
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


class Amplifies(torch.nn.Module):
    """Loses digits: what is left of two large numbers."""

    def forward(self, x):
        return (x + 10_000) - 10_000


class InFloat64(torch.nn.Module):
    def forward(self, x):
        return Amplifies()(x.double()).float()


class Exact:
    """A backend that rounds less than the model does."""

    name, variant = "eager", ""

    def build(self, request):
        from corestream.lowering.eager import EagerArtifact

        return EagerArtifact(InFloat64())


@pytest.mark.parametrize("tolerance", [None, 1e-4])
def test_rounding_that_a_model_has_of_its_own_is_no_reason_to_refuse(monkeypatch, tolerance):
    from corestream.errors import LoweringError
    from corestream.lowering import api

    monkeypatch.setattr(api, "_backends", lambda *_, **__: [Exact()])
    model, x = Amplifies().eval(), torch.linspace(1, 2, 40).reshape(4, 10)
    options = {"num_streams": 1, "tolerance": tolerance, "cache": False}
    if tolerance is not None:
        with pytest.raises(LoweringError, match="wrong for example"):
            corestream.lower(model, x, **options)
        return
    (candidate,) = corestream.lower(model, x, **options).report.candidates
    assert 1e-4 < candidate.error < candidate.error_limit
