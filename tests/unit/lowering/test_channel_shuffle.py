from __future__ import annotations

import pytest
import torch
from torch import nn

import corestream
from corestream.lowering.own_operators import own_operators
from corestream.measure import ModelInputs

DYNAMIC = torch.export.Dim("batch")
GROUPS = 2


def as_torchvision_does(x):
    batch, channels, height, width = x.size()
    x = x.view(batch, GROUPS, channels // GROUPS, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, channels, height, width)


def by_permute(x):
    grouped = x.reshape(x.shape[0], GROUPS, -1, *x.shape[2:])
    return grouped.permute(0, 2, 1, 3, 4).flatten(1, 2)


def by_unflatten(x):
    return x.unflatten(1, (GROUPS, -1)).transpose(2, 1).reshape(x.shape)


class Block(nn.Module):
    """Half of the channels is convolved, then all are shuffled."""

    def __init__(self, shuffle, *, joins=True):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(16, 5, 1)
        self.shuffle, self.joins = shuffle, joins

    def forward(self, x):
        x = self.first(x)
        if self.joins:
            left, right = x.chunk(2, dim=1)
            x = torch.cat([left, self.second(right)], dim=1)
        return self.last(self.shuffle(x))


SHUFFLES = [
    as_torchvision_does,
    by_permute,
    by_unflatten,
    nn.ChannelShuffle(GROUPS),
    lambda x: nn.functional.channel_shuffle(x, GROUPS),
]
NAMES = ["torchvision", "permute", "unflatten", "module", "function"]


def images(batch=3, *, memory_format=torch.channels_last):
    return torch.randn(batch, 3, 9, 7).contiguous(memory_format=memory_format)


def operators_of(model, x):
    with torch.no_grad(), own_operators(model, ModelInputs((x,), {}), team_size=1):
        program = torch.export.export(model, (x,), dynamic_shapes=({0: DYNAMIC},))
    return [str(node.target) for node in program.run_decompositions({}).graph.nodes]


def count_ours(model, x):
    return operators_of(model, x).count("corestream.interleave_channels.default")


@pytest.mark.parametrize("joins", [True, False])
@pytest.mark.parametrize("shuffle", SHUFFLES, ids=NAMES)
def test_a_shuffle_is_one_operator_however_it_is_written(shuffle, joins):
    names = operators_of(Block(shuffle, joins=joins).eval(), images())
    assert names.count("corestream.interleave_channels.default") == 1
    assert not {"aten.clone.default", "aten.cat.default", "aten.view.default"} & set(names)


def test_groups_that_are_not_the_joined_parts_are_slices_of_the_whole():
    class Uneven(Block):
        def forward(self, x):
            x = self.first(x)
            return self.shuffle(torch.cat([x[:, :2], x[:, 2:]], dim=1))

    model, x = Uneven(as_torchvision_does).eval(), images()
    assert count_ours(model, x) == 1
    with torch.no_grad(), own_operators(model, ModelInputs((x,), {}), team_size=1):
        traced = torch.jit.trace(model, x)
    torch.testing.assert_close(traced(x), model(x))


def writes_to_what_was_joined(x):
    parts = [part.clone() for part in x.chunk(2, dim=1)]
    joined = torch.cat(parts, dim=1)
    parts[0].zero_()
    return as_torchvision_does(joined)


def writes_between(x):
    swapped = x.view(x.shape[0], GROUPS, -1, 7, 5).transpose(1, 2).contiguous()
    x.zero_()
    return swapped.relu_().view(x.shape)


def swaps_twice(x):
    grouped = x.unflatten(1, (GROUPS, -1)).transpose(1, 2).transpose(1, 2)
    return grouped.flatten(1, 2)


def swaps_others(x):
    return x.unflatten(1, (GROUPS, -1)).transpose(1, 3).transpose(1, 3).flatten(1, 2)


@pytest.mark.parametrize(
    ("shuffle", "calls"),
    [(writes_to_what_was_joined, 1), (writes_between, 0), (swaps_twice, 0), (swaps_others, 0)],
)
def test_what_only_looks_like_a_shuffle_stays_right(shuffle, calls):
    model, x = Block(shuffle, joins=False).eval(), images()
    with torch.no_grad():
        assert count_ours(model, x) == calls
        with own_operators(model, ModelInputs((x,), {}), team_size=1):
            traced = torch.jit.trace(model, x, check_trace=False)
        torch.testing.assert_close(traced(x), model(x))


def test_other_layouts_are_torchs():
    x = images(memory_format=torch.contiguous_format)
    assert count_ours(Block(as_torchvision_does).eval(), x) == 0


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("backend", ["aotinductor", "torchscript"])
def test_a_lowered_model_shuffles_right_for_any_batch_and_can_be_saved(backend, dtype, tmp_path):
    model = Block(as_torchvision_does).eval()
    lowered = corestream.lower(model, images(), backend=backend, dtype=dtype, cache=False)
    lowered.save(tmp_path / "model.pt2")
    loaded = corestream.load(tmp_path / "model.pt2")
    limits = {"rtol": 1e-4, "atol": 1e-5} if dtype is None else {"rtol": 0.05, "atol": 0.05}
    for batch in (1, 3, 5):
        x = images(batch)
        with torch.no_grad():
            expected = model(x)
        torch.testing.assert_close(lowered(x), expected, **limits)
        torch.testing.assert_close(loaded(x), expected, **limits)
