"""Who reads whose output: by tracing without any patch, and by watching a run."""

from __future__ import annotations

import threading

import torch
from torch import nn

from corestream.measure import ModelInputs
from corestream.optimization.recording import record
from corestream.optimization.tracing import trace
from corestream.optimization.wiring import find_wiring
from tests.unit.optimization.models import Attention, Net, Taps, trained

IMAGES = ModelInputs.of(torch.ones(2, 3, 6, 6))


def test_tracing_and_running_see_the_same():
    model = trained(Net())
    for wiring in (trace(model), record(model, IMAGES)):
        assert wiring.reader["conv"] == "norm"
        assert wiring.reader["hidden"] == "hidden_norm"
        assert "norm" not in wiring.reader or wiring.reader["norm"] != "hidden"


def test_what_something_else_reads_or_keeps_has_no_single_reader():
    model = trained(Taps())
    assert record(model, IMAGES).reader == {"fine": "norms.3"}


def test_tracing_leaves_no_trace_in_the_model():
    model = trained(nn.Sequential(Net(), nn.ReLU()))
    state, attributes = dict(model.state_dict()), {m: set(vars(m)) for m in model.modules()}
    trace(model)
    assert {m: set(vars(m)) for m in model.modules()} == attributes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_children_are_traced_where_the_whole_cannot_be():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Net()

        def forward(self, x):
            return self.backbone(x) if x.sum() > 0 else x

    assert trace(trained(Outer())).reader["backbone.conv"] == "backbone.norm"


def test_a_run_is_right_about_what_a_part_of_the_model_does_not_say():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))

        def forward(self, x):
            if x.sum() > 1e9:
                return x
            return self.backbone(x) + self.backbone[0](x)  # calls the convolution by itself, too

    model = trained(Outer())
    assert trace(model).reader["backbone.0"] == "backbone.1"
    assert "backbone.0" not in find_wiring(model, IMAGES).reader


def test_groups_read_one_tensor_with_one_value():
    class Writes(Attention):
        def forward(self, x):
            x = x + 0
            q = self.query(x)
            x += 1
            return q + self.key(x) + self.value(x)

    x = ModelInputs.of(torch.ones(2, 5, 32))
    assert record(Attention().eval(), x).same_input == (("query", "key", "value"),)
    assert record(Writes().eval(), x).same_input == (("key", "value"),)
    assert trace(Writes().eval()).same_input in ((), (("key", "value"),))


def test_weights_that_are_read_elsewhere_are_noted():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, x):
            return nn.functional.linear(self.down(self.up(x)), self.up.weight)

    model, x = Tied().eval(), ModelInputs.of(torch.ones(2, 4))
    assert trace(model).read_outside == {"up"}
    assert record(model, x).read_outside == {"up"}


def test_models_that_run_meanwhile_on_other_threads_are_not_disturbed():
    """`torch.fx.Tracer.trace` replaces nn.Module.__call__ for all of them."""
    other, failures, stop = nn.Sequential(nn.Linear(4, 4)), [], threading.Event()

    def serve():
        while not stop.is_set():
            try:
                other(torch.ones(1, 4))
            except (NameError, RuntimeError, TypeError) as error:
                failures.append(error)
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for _ in range(10):
            assert trace(trained(Net())).reader
    finally:
        stop.set()
        thread.join()
    assert failures == []
