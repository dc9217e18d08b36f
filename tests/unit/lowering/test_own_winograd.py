"""3 x 3 and 5 x 5 convolutions of traces are Winograd's where that is faster."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from corestream.lowering import lower
from corestream.lowering.backend import LoweringRequest
from corestream.lowering.own_winograd import ConvolutionSize
from corestream.lowering.timed_for import TimedFor
from corestream.lowering.torchscript import TorchScriptBackend
from corestream.measure import ModelInputs
from corestream.ops import (
    ConvolutionShape,
    has_winograd_kernel,
    pack_convolution,
    pack_winograd,
)
from tests.unit.lowering.traced_layers import (
    CHAIN,
    JOINED,
    OURS,
    Model,
    images,
    needs_kernel,
    traced_script,
)

pytestmark = needs_kernel


@pytest.fixture(params=[0, 4, 6])
def tile(request, monkeypatch):
    """What the timing says."""

    def best_tile(self):
        if not has_winograd_kernel(self.dtype, self.shape):
            return 0
        return 6 if request.param and self.shape.weight_size[2] == 5 else request.param

    monkeypatch.setattr(ConvolutionSize, "best_tile", best_tile)
    return request.param


def tiles_in(script):
    """Those of weights in Winograd's form: constants of the graph, also in lists of them."""
    constants = [node.output() for node in script.graph.nodes() if node.kind() == "prim::Constant"]
    leaves = tree_leaves([constant.toIValue() for constant in constants])
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return {tensor.shape[0] for tensor in tensors if tensor.shape[:2] in ((4, 4), (6, 6))}


def followed(model, x):
    return (model.norm(model.second(x)) + x).relu()


def chained(model, x):
    return model.first(model.second(x).relu())


def joined(model, x):
    return torch.cat([model.first(x), model.second(x).relu()], 1)


@pytest.mark.parametrize(
    ("function", "call"), [(followed, OURS), (chained, CHAIN), (joined, JOINED)]
)
def test_the_fastest_form_is_a_constant_of_the_graph(function, call, tile):
    model, x = Model(function), images()
    kinds, script = traced_script(model, x)
    assert call in kinds
    assert tiles_in(script) == ({tile} if tile else set())
    torch.testing.assert_close(script(x), model(x), rtol=1e-4, atol=1e-5)
    x = images(batch=3)[..., 1:]
    torch.testing.assert_close(script(x), model(x), rtol=1e-4, atol=1e-5)


def request_for(model, x):
    return LoweringRequest(
        model=model,
        inputs=ModelInputs((x,), {}),
        dtype=None,
        team_size=1,
        num_streams=1,
        dynamic_batch=True,
        batch_sizes=(x.shape[0],),
    )


@pytest.mark.parametrize("function", [followed, chained, joined])
def test_weights_are_counted_also_in_lists(function, tile):
    model, x = Model(function), images()
    artifact = TorchScriptBackend(own_layers=True).build(request_for(model, x))
    weight, first = model.second.weight, model.first.weight
    form = pack_winograd(weight, tile=tile) if tile else pack_convolution(weight)
    other = 0 if function is followed else pack_convolution(first).nbytes + model.first.bias.nbytes
    bias = model.norm.bias.nbytes if function is followed else 0
    assert artifact.weight_bytes == form.nbytes + other + bias


def pictures(batch):
    return torch.randn(batch, 3, 32, 32)


class Blocks(nn.Module):
    """Layers with and without the form."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 5, padding=2),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
        )

    def forward(self, x):
        return self.layers(x)


def test_a_lowered_model_is_right_in_every_form(tile):
    model = Blocks().eval()
    artifact = TorchScriptBackend(own_layers=True).build(request_for(model, pictures(4)))
    assert tiles_in(artifact._script) == ({tile, 6} if tile else set())
    for batch in (4, 1, 2, 5) * 3:
        x = pictures(batch)
        torch.testing.assert_close(artifact.call((x,), {}), model(x), rtol=1e-3, atol=1e-4)


def test_streams_keep_the_form_of_every_layer(tile):
    """None of the candidates is wrong, so the one with this form is among those measured."""
    model = Blocks().eval()
    lowered = lower(model, pictures(4), backend="torchscript", num_streams=2)
    assert [one.reason for one in lowered.report.candidates] == ["", ""]
    for batch in (4, 1, 5):
        x = pictures(batch)
        torch.testing.assert_close(lowered(x), model(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
def test_layers_are_timed_for_the_batch_that_is_asked_for(batch, monkeypatch):
    seen = set()

    def best_tile(self):
        seen.add(self.images)
        return 0

    monkeypatch.setattr(ConvolutionSize, "best_tile", best_tile)
    model = Blocks().eval()
    TorchScriptBackend(own_layers=True).build(request_for(model, pictures(batch)))
    assert seen == {batch}


def size(*, images, shape, dtype=torch.float32):
    x = torch.empty(images, shape.weight_size[1], 28, 28, dtype=dtype, device="meta")
    return ConvolutionSize.of(x, shape, timed_for=TimedFor(1, batch=1, traced_batch=2))


def test_the_timing_is_of_the_batch_that_will_run():
    """A batch of one is traced as two."""
    shape = ConvolutionShape((8, 8, 3, 3))
    assert size(images=2, shape=shape).images == 1
    assert size(images=8, shape=shape).images == 4
    assert TimedFor(1).count(3) == 3


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        (ConvolutionShape((8, 8, 3, 3), stride=(2, 2)), torch.float32),
        (ConvolutionShape((8, 8, 3, 3)), torch.bfloat16),
    ],
)
def test_what_has_no_such_kernel_is_not_timed(shape, dtype, monkeypatch):
    monkeypatch.setattr("corestream.lowering.own_winograd.best_times", None)
    assert not size(images=2, shape=shape, dtype=dtype).best_tile()


@pytest.mark.parametrize(
    ("times", "best"),
    [
        ({"0": 1.0, "4": 0.9, "6": 0.5}, 6),
        ({"0": 1.0, "4": 0.9, "6": 0.88}, 4),
        ({"0": 1.0, "4": 0.97, "6": 0.96}, 0),
        ({"0": 1.0, "4": 0.97, "6": 0.9}, 6),
    ],
)
def test_more_memory_must_pay(times, best, monkeypatch):
    seen = {}

    def best_times(calls, *, rounds):
        seen.update({name: call() for name, call in calls.items()})
        return {name: times[name] for name in calls}

    monkeypatch.setattr("corestream.lowering.own_winograd.best_times", best_times)
    shape = ConvolutionShape((16, 16, 3, 3), padding=(1, 1))
    # A size of its own: what was measured is kept for as long as the process lives.
    one = replace(size(images=2, shape=shape), height=20 + int(100 * times["6"]))
    assert one.best_tile() == best
    assert list(seen) == ["0", "4", "6"]
    torch.testing.assert_close(seen["4"], seen["0"])
    torch.testing.assert_close(seen["6"], seen["0"])


def test_a_layer_is_timed_in_its_own_dtype():
    """Whatever torch makes tensors of."""
    shape = ConvolutionShape((24, 24, 5, 5), padding=(2, 2))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert size(images=2, shape=shape).best_tile() in (0, 6)
    finally:
        torch.set_default_dtype(before)
