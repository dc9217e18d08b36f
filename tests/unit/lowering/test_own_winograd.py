"""3 x 3 and 5 x 5 convolutions of traces are Winograd's where that is faster."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from corestream.lowering import lower
from corestream.lowering.own_winograd import ConvolutionSize
from corestream.lowering.timed_for import TimedFor
from corestream.ops import ConvolutionShape, has_winograd_kernel
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


@pytest.fixture(params=[False, True])
def is_faster(request, monkeypatch):
    """What the timing says."""

    def decide(self):
        return request.param and has_winograd_kernel(self.dtype, self.shape)

    monkeypatch.setattr(ConvolutionSize, "winograd_is_faster", decide)
    return request.param


def count_forms(script):
    """How many weights have Winograd's form: constants of the graph, also in lists of them."""
    constants = [node.output() for node in script.graph.nodes() if node.kind() == "prim::Constant"]
    leaves = tree_leaves([constant.toIValue() for constant in constants])
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return len({tensor.data_ptr() for tensor in tensors if tensor.shape[:2] == (6, 6)})


def followed(model, x):
    return (model.norm(model.second(x)) + x).relu()


def chained(model, x):
    return model.first(model.second(x).relu())


def joined(model, x):
    return torch.cat([model.first(x), model.second(x).relu()], 1)


@pytest.mark.parametrize(
    ("function", "call"), [(followed, OURS), (chained, CHAIN), (joined, JOINED)]
)
def test_the_faster_form_is_a_constant_of_the_graph(function, call, is_faster):
    model, x = Model(function), images()
    kinds, script = traced_script(model, x)
    assert call in kinds
    assert count_forms(script) == int(is_faster)
    torch.testing.assert_close(script(x), model(x), rtol=1e-4, atol=1e-5)
    x = images(batch=3)[..., 1:]
    torch.testing.assert_close(script(x), model(x), rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("num_streams", [1, 2])
def test_a_lowered_model_is_right_whatever_is_faster(num_streams, is_faster):
    model = Blocks().eval()
    lowered = lower(
        model, torch.randn(4, 3, 32, 32), backend="torchscript", num_streams=num_streams
    )
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 32, 32)
        torch.testing.assert_close(lowered(x), model(x), rtol=1e-3, atol=1e-4)


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
    monkeypatch.setattr("corestream.lowering.own_winograd.is_ours_faster", None)
    assert not size(images=2, shape=shape, dtype=dtype).winograd_is_faster()


def test_the_timing_finds_out():
    """Which of the two it is depends on the machine; a lowering ends with one of them."""
    shape = ConvolutionShape((64, 64, 3, 3), padding=(1, 1))
    assert has_winograd_kernel(torch.float32, shape)
    assert size(images=2, shape=shape).winograd_is_faster() in (False, True)
