"""Passes that are wrong or slow are undone; the timings here are made up."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from corestream.errors import CorestreamWarning
from corestream.measure import ModelInputs, Timing
from corestream.nn import ConcatLinear
from corestream.optimization import optimize, trial
from corestream.optimization.plan import Edit, Plan
from corestream.optimization.trial import Rules, Trial
from tests.unit.optimization.models import Attention, Net, trained

IMAGES = torch.linspace(-1, 1, 2 * 3 * 6 * 6).view(2, 3, 6, 6)


@pytest.fixture
def timings(monkeypatch):
    """Seconds of a call before and after a pass, as the test wants them."""
    seconds = {"before": 1.0, "after": 1.0}

    def compare_times(calls, **_):
        for call in calls.values():
            call()
        return {name: Timing((seconds[name],) * 5) for name in calls}

    monkeypatch.setattr(trial, "compare_times", compare_times)
    return seconds


class Scaled(nn.Module):
    def __init__(self, inner, factor):
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x):
        return self.inner(x) * self.factor


def scaling(factor):
    return Edit(
        ("0",),
        build=lambda modules: (Scaled(modules[0], factor),),
        restore=lambda modules: (modules[0].inner,),
    )


def attempt(factor, *, keeps_old=True, rules=None):
    root, x = nn.Sequential(nn.Linear(4, 4)).eval(), torch.ones(2, 4)
    job = Trial(
        root,
        inputs=ModelInputs.of(x),
        keeps_old=keeps_old,
        dtype=torch.float32,
        tolerance=None,
    )
    (report,) = job.attempt(Plan([scaling(factor)]), name="pass", rules=rules or Rules())
    return job.root, report


@pytest.mark.parametrize("keeps_old", [True, False])
def test_a_wrong_pass_is_undone(timings, keeps_old):
    root, report = attempt(1.5, keeps_old=keeps_old)
    assert type(root[0]) is nn.Linear
    assert report.done == ()
    assert "differs by" in report.rolled_back


@pytest.mark.parametrize("keeps_old", [True, False])
def test_a_slow_pass_is_undone(timings, keeps_old):
    timings["after"] = 1.25
    root, report = attempt(1.0, keeps_old=keeps_old)
    assert type(root[0]) is nn.Linear
    assert report.rolled_back == "it is slower: 0.80 times as fast"


@pytest.mark.parametrize(
    ("after", "rules", "stays"),
    [
        (1.0, Rules(), True),
        (1.0, Rules(must_pay=True), False),
        (0.5, Rules(must_pay=True), True),
        (4.0, Rules(may_cost=True), True),
    ],
)
def test_what_stays_depends_on_the_rules(timings, after, rules, stays):
    timings["after"] = after
    root, report = attempt(1.0, rules=rules)
    assert (type(root[0]) is Scaled) == stays
    assert bool(report.done) == stays
    assert report.speedup == 1 / after


def test_an_edit_that_cannot_be_made_is_reported(timings):
    def fail(modules):
        raise RuntimeError("no kernel")

    root = nn.Sequential(nn.Linear(4, 4)).eval()
    job = Trial(root, inputs=None, keeps_old=True, dtype=torch.float32, tolerance=None)
    (report,) = job.attempt(Plan([Edit(("0",), fail, fail)]), name="pass", rules=Rules())
    assert report.skipped == {"0": "no kernel"}
    assert report.done == ()


@pytest.mark.parametrize("inplace", [False, True])
def test_every_pass_of_optimize_can_be_undone(timings, inplace):
    timings["after"] = 2.0
    model = trained(Net())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    fast = optimize(model, example_inputs=IMAGES, inplace=inplace)
    assert all(not entry.done for entry in fast.report.passes)
    assert all(e.rolled_back for e in fast.report.passes if not (e.skipped or e.is_empty))
    kinds = {type(module) for module in fast.modules()}
    assert kinds == {Net, nn.Conv2d, nn.BatchNorm2d, nn.Dropout, nn.Linear, nn.BatchNorm1d}
    assert all(torch.equal(value, state[name]) for name, value in fast.state_dict().items())


def test_outputs_that_differ_from_run_to_run_are_not_compared(timings):
    class Noise(Net):
        def forward(self, x):
            return super().forward(x) + torch.rand(())

    report = optimize(trained(Noise()), example_inputs=IMAGES).report
    assert "differ from run to run" in report.notes[0]
    assert all(entry.rolled_back is None for entry in report.passes)


@pytest.mark.parametrize("inplace", [False, True])
def test_auto_takes_a_dtype_that_gains(timings, monkeypatch, inplace):
    monkeypatch.setattr("corestream.optimization.products.product_speedup", lambda *_: 3.0)
    timings["after"] = 0.5
    fast = optimize(trained(Net()), "auto", example_inputs=IMAGES, inplace=inplace)
    assert fast.report.dtype == "bfloat16"
    timings["after"] = 1.0
    slow = optimize(trained(Net()), "auto", example_inputs=IMAGES, inplace=inplace)
    assert slow.report.dtype == "float32"


ROWS = torch.linspace(-1, 1, 2 * 5 * 32).view(2, 5, 32)


def test_layers_of_one_product_have_memory_of_their_own(timings):
    timings["after"] = 0.5
    model = Attention().eval()
    fast = optimize(model, example_inputs=ROWS)
    assert fast.report["concat_linear"].done == ("query", "key", "value")
    with torch.no_grad():
        expected = fast(ROWS)
        for parameter in model.parameters():
            parameter.zero_()
        assert fast(ROWS).equal(expected)


@pytest.mark.parametrize("inplace", [False, True])
def test_one_product_stays_one_through_a_cast_and_back(timings, monkeypatch, inplace):
    monkeypatch.setattr("corestream.optimization.products.product_speedup", lambda *_: 3.0)
    timings["after"] = 0.5
    options = {"example_inputs": ROWS, "inplace": inplace}
    model = Attention().eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    fast = optimize(model, torch.bfloat16, tolerance=0.5, **options)
    assert fast.report["dtype"].done == ("query", "key", "value")
    assert {type(layer) for layer in fast.children()} == {ConcatLinear}
    assert fast.query.weight.dtype is torch.bfloat16
    assert all(value.equal(state[name]) for name, value in fast.state_dict().items())
    model = Attention().eval()
    with pytest.warns(CorestreamWarning, match="stays in float32"):
        fast = optimize(model, torch.bfloat16, tolerance=1e-5, **options)
    assert {type(layer) for layer in fast.children()} == {ConcatLinear}
    assert fast.query.weight.dtype is torch.float32
    assert not fast._forward_hooks
