"""Which products of batches become ours in what is traced."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import corestream
from corestream.lowering import products
from corestream.lowering.own_operators import own_operators
from corestream.measure import ModelInputs
from corestream.ops import has_linear_kernel

OURS = "corestream::multiply_transposed"
needs_kernel = pytest.mark.skipif(
    not has_linear_kernel(torch.float32), reason="this CPU has no kernel of ours for float32"
)


@pytest.fixture
def faster(monkeypatch):
    """Decides for all shapes, without timing."""

    def decide(is_ours):
        monkeypatch.setattr(products._Shape, "our_kernel_is_faster", lambda self: is_ours)

    return decide


class Model(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, x):
        return self.function(x)


def traced(model, x):
    with torch.no_grad(), own_operators(model, ModelInputs((x,), {})):
        script = torch.jit.freeze(torch.jit.trace(model, (x,), check_trace=False))
    return [node.kind() for node in script.graph.nodes()], script


@needs_kernel
@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.bmm(x, x.transpose(1, 2)),
        lambda x: x.bmm(x.mT),
        lambda x: x @ x.transpose(-1, -2),
        lambda x: torch.matmul(x, x.permute(0, 2, 1)),
    ],
    ids=["bmm", "method", "operator", "matmul"],
)
def test_products_with_a_transposed_matrix_are_ours_for_any_batch(function, faster):
    faster(True)
    kinds, script = traced(Model(function), torch.randn(3, 27, 64))
    assert OURS in kinds
    x = torch.randn(5, 27, 64)
    torch.testing.assert_close(script(x), function(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.bmm(x, x[:, :, :27].contiguous()),
        lambda x: x @ x[0].T,
        lambda x: x[:, None] @ x[:, None].transpose(-1, -2),
        lambda x: x.double() @ x.double().mT,
        lambda x: x[0] @ x[0].T,
    ],
    ids=["not transposed", "broadcast", "4 dims", "no kernel", "no batch"],
)
def test_others_stay_torchs(function, faster):
    faster(True)
    kinds, script = traced(Model(function), torch.randn(3, 27, 27))
    assert OURS not in kinds
    x = torch.randn(3, 27, 27)
    torch.testing.assert_close(script(x), function(x), rtol=1e-4, atol=1e-4)


def test_what_is_slower_stays_torchs(faster):
    faster(False)
    kinds, _ = traced(Model(lambda x: torch.bmm(x, x.mT)), torch.randn(3, 27, 64))
    assert OURS not in kinds


@needs_kernel
def test_a_recommender_is_lowered_by_each_backend(faster):
    faster(True)

    class Interaction(nn.Module):
        def __init__(self):
            super().__init__()
            self.bottom = nn.Linear(8, 16)

        def forward(self, x):
            features = torch.stack([self.bottom(x), x[:, :1].expand(-1, 16)], 1)
            return torch.bmm(features, features.transpose(1, 2)).flatten(1)

    model, x = Interaction().eval(), torch.randn(6, 8)
    for backend in ("aotinductor", "torchscript"):
        lowered = corestream.lower(model, x, backend=backend, num_streams=1)
        other = torch.randn(4, 8)
        torch.testing.assert_close(lowered(other), model(other), rtol=1e-4, atol=1e-4)
