"""Which joins of embeddings become ours in what is traced."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from corestream.lowering.backend import LoweringRequest
from corestream.lowering.own_layers import may_have_own_layers
from corestream.lowering.own_linear import LinearShape
from corestream.lowering.torchscript import TorchScriptBackend
from corestream.measure import ModelInputs

OURS = "corestream::joined_embeddings"
TABLES = 4


class Recommender(nn.Module):
    def __init__(self, join, width=16):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(30, width) for _ in range(TABLES))
        self.dense = nn.Linear(5, width)
        self.join = join
        self.eval()

    def forward(self, numbers, categories):
        found = [table(categories[:, i]) for i, table in enumerate(self.tables)]
        return self.join([self.dense(numbers).relu(), *found])


def inputs(batch):
    generator = torch.Generator().manual_seed(batch)
    numbers = torch.randn(batch, 5, generator=generator)
    return numbers, torch.randint(0, 30, (batch, TABLES), generator=generator)


@pytest.fixture(autouse=True)
def linears_are_ours(monkeypatch):
    monkeypatch.setattr(LinearShape, "our_kernel_is_faster", lambda *_, **__: True)


def lowered(model):
    request = LoweringRequest(
        model=model,
        inputs=ModelInputs(inputs(4), {}),
        dtype=None,
        team_size=1,
        num_streams=1,
        batch_sizes=(4,),
        dynamic_batch=True,
    )
    artifact = TorchScriptBackend(own_layers=True).build(request)
    kinds = [node.kind() for node in artifact._script.graph.nodes()]
    return artifact, kinds


@pytest.mark.parametrize(
    "join",
    [
        lambda parts: torch.stack(parts, dim=1),
        lambda parts: torch.stack(parts, -2),
        lambda parts: torch.cat(parts, 1),
        lambda parts: torch.concat(parts, dim=-1),
    ],
    ids=["stack", "stack from the end", "cat", "concat from the end"],
)
def test_embeddings_are_looked_up_into_their_join_for_any_batch(join):
    model = Recommender(join)
    artifact, kinds = lowered(model)
    assert kinds.count(OURS) == 1
    assert "aten::embedding" not in kinds
    for batch in (1, 4, 9):
        torch.testing.assert_close(artifact.call(inputs(batch), {}), model(*inputs(batch)))


@pytest.mark.parametrize(
    "join",
    [
        lambda parts: torch.stack(parts),
        lambda parts: torch.stack(parts, 2),
        lambda parts: torch.cat(parts, 0),
        lambda parts: torch.cat(parts[:3], 1),
        lambda parts: sum(parts),
    ],
    ids=["rows", "last dim", "batches", "two tables", "a sum"],
)
def test_other_uses_of_embeddings_are_left_to_torch(join):
    model = Recommender(join)
    artifact, kinds = lowered(model)
    assert OURS not in kinds
    torch.testing.assert_close(artifact.call(inputs(3), {}), model(*inputs(3)))


def test_an_embedding_that_others_read_is_kept_for_them():
    def join(parts):
        return torch.cat(parts, 1), parts[-1] * 2

    model = Recommender(join)
    artifact, kinds = lowered(model)
    assert (OURS in kinds, kinds.count("aten::embedding")) == (True, 1)
    for found, expected in zip(artifact.call(inputs(3), {}), model(*inputs(3)), strict=True):
        torch.testing.assert_close(found, expected)


def test_tables_that_lookups_write_to_are_left_to_torch():
    model = Recommender(lambda parts: torch.cat(parts, 1))
    for table in model.tables:
        table.max_norm = 1.0
    with torch.no_grad():
        expected = model(*inputs(4))
    artifact, kinds = lowered(model)
    assert OURS not in kinds
    torch.testing.assert_close(artifact.call(inputs(4), {}), expected)


def test_a_model_of_many_tables_gets_the_candidate():
    assert may_have_own_layers(Recommender(lambda parts: parts[0]))
    assert not may_have_own_layers(nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 4)))
