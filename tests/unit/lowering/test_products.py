"""Which products of batches become ours in what is traced."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import corestream
from corestream.lowering import products
from corestream.lowering.own_operators import own_operators
from corestream.measure import ModelInputs
from corestream.ops import has_kernels, multiply_transposed

OURS = "corestream::multiply_transposed"
needs_kernel = pytest.mark.skipif(
    not has_kernels(torch.float32), reason="this CPU has no kernel of ours for float32"
)


@pytest.fixture
def faster(monkeypatch):
    """Decides for all shapes, without timing."""

    def decide(is_ours):
        monkeypatch.setattr(products._Shape, "our_kernel_is_faster", lambda *_: is_ours)

    return decide


class Model(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, x):
        return self.function(x)


def traced(model, x):
    with torch.no_grad(), own_operators(model, ModelInputs((x,), {}), team_size=1):
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
def test_a_recommender_is_lowered_by_each_backend(faster, monkeypatch, tmp_path):
    faster(True)
    called = []

    def noted(left, right):
        called.append(left.shape)
        return multiply_transposed(left, right)

    monkeypatch.setattr(products, "multiply_transposed", noted)

    class Interaction(nn.Module):
        def __init__(self):
            super().__init__()
            self.bottom = nn.Linear(8, 16)

        def forward(self, x):
            features = torch.stack([self.bottom(x), x[:, :1].expand(-1, 16)], 1)
            return torch.bmm(features, features.transpose(1, 2)).flatten(1)

    model, x = Interaction().eval(), torch.randn(6, 8)
    for backend in ("aotinductor", "torchscript"):
        called.clear()
        lowered = corestream.lower(
            model, x, backend=backend, num_streams=1, cache=tmp_path, progress=False
        )
        assert called
        other = torch.randn(4, 8)
        torch.testing.assert_close(lowered(other), model(other), rtol=1e-4, atol=1e-4)


@needs_kernel
def test_it_is_measured_for_the_batch_and_the_team(monkeypatch):
    asked = []

    def is_faster(shape, items, team_size):
        asked.append((shape.rows, shape.columns, shape.depth, items, team_size))
        return False

    monkeypatch.setattr(products._Shape, "our_kernel_is_faster", is_faster)
    for batch in (3, 300):
        x = torch.randn(batch, 27, 64)
        own_operators(Model(lambda x: x @ x.mT), ModelInputs((x,), {}), team_size=2)
    assert asked == [(27, 27, 64, 3, 2), (27, 27, 64, 16, 2)]


def test_large_matrices_are_not_measured(faster):
    faster(True)
    kinds, _ = traced(Model(lambda x: x @ x.mT), torch.randn(1, 1025, 8))
    assert OURS not in kinds


@needs_kernel
def test_measuring_answers():
    shape = products._Shape(torch.float32, 27, 27, 64)
    assert shape.our_kernel_is_faster(4, 1) in (True, False)
