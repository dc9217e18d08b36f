"""Splitting and joining undo one another, for any nest, sizes, number of streams and dims."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hypothesis import given
from hypothesis import strategies as st

from corestream import MultiStreamModuleHint
from corestream.runtime.concat import DEFAULT, concat_outputs
from corestream.runtime.split import part_lengths, split_arguments
from tests.helpers import assert_outputs_match, tensors_in

SIZES = st.integers(0, 9)
PARTS = st.integers(1, 6)
DTYPES = st.sampled_from([torch.float32, torch.int64, torch.bool, torch.bfloat16])
PLAIN = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.booleans())

# A value, and the hint that fits it.
Hinted = tuple[Any, Any]


class Pair(NamedTuple):
    left: Any
    right: Any


@st.composite
def cut_tensors(draw: st.DrawFn, size: int) -> Hinted:
    shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    dim = draw(st.integers(-len(shape), len(shape) - 1))
    shape[dim] = size
    values = torch.arange(torch.Size(shape).numel()).view(shape)
    return values.to(draw(DTYPES)), dim


@st.composite
def whole_values(draw: st.DrawFn) -> Hinted:
    shape = draw(st.lists(st.integers(0, 3), max_size=2))
    return draw(st.one_of(PLAIN, st.just(torch.ones(shape)))), None


def nests_of(leaves: st.SearchStrategy[Hinted]) -> st.SearchStrategy[Hinted]:
    return st.recursive(leaves, lambda inner: st.one_of(_sequences(inner), _mappings(inner)))


def _sequences(inner: st.SearchStrategy[Hinted]) -> st.SearchStrategy[Hinted]:
    def pair(both: list[Hinted]) -> Hinted:
        return Pair(both[0][0], both[1][0]), (both[0][1], both[1][1])

    return st.one_of(
        st.lists(inner, max_size=3).map(lambda es: ([v for v, _ in es], [h for _, h in es])),
        st.lists(inner, max_size=3).map(lambda es: (tuple(v for v, _ in es), [h for _, h in es])),
        st.lists(inner, min_size=2, max_size=2).map(pair),
    )


def _mappings(inner: st.SearchStrategy[Hinted]) -> st.SearchStrategy[Hinted]:
    entries = st.dictionaries(st.text(max_size=3), inner, max_size=3)
    return entries.map(
        lambda es: ({k: v for k, (v, _) in es.items()}, {k: h for k, (_, h) in es.items()})
    )


@st.composite
def hinted_calls(draw: st.DrawFn) -> tuple[int, Hinted]:
    size = draw(SIZES)
    leaves = st.one_of(cut_tensors(size), whole_values())
    return size, draw(nests_of(leaves))


@st.composite
def plain_calls(draw: st.DrawFn) -> tuple[int, Any]:
    size = draw(SIZES)
    shapes = st.lists(st.integers(0, 3), max_size=2)
    tensors = shapes.map(lambda rest: (torch.arange(size).view([size] + [1] * len(rest)), None))
    value, _ = draw(nests_of(st.one_of(tensors, PLAIN.map(lambda leaf: (leaf, None)))))
    return size, value


def count_cut(hint: Any, value: Any) -> int:
    if isinstance(hint, int):
        return 1
    if isinstance(hint, dict):
        return sum(count_cut(inner, value[key]) for key, inner in hint.items())
    return sum(map(count_cut, hint, value)) if isinstance(hint, list | tuple) else 0


@given(hinted_calls(), PARTS, st.booleans())
def test_joining_what_was_split_by_a_hint_gives_it_back(call, num_parts, by_keyword):
    size, (value, hint) = call
    if by_keyword:
        arguments, hints = ((), {"value": value}), MultiStreamModuleHint(value=hint)
    else:
        arguments, hints = ((value,), {}), MultiStreamModuleHint(hint)
    parts = split_arguments(arguments, hint=hints, num_parts=num_parts)
    expected = len(part_lengths(size, num_parts=num_parts)) if count_cut(hint, value) else 1
    assert len(parts) == expected
    pieces = [kwargs["value"] if by_keyword else args[0] for args, kwargs in parts]
    assert_outputs_match(concat_outputs(pieces, hint), value)


@given(plain_calls(), PARTS)
def test_joining_what_was_split_without_hint_gives_it_back(call, num_parts):
    size, value = call
    parts = split_arguments(((value,), {}), hint=None, num_parts=num_parts)
    pieces = [args[0] for args, _ in parts]
    assert_outputs_match(concat_outputs(pieces, DEFAULT), value)
    if tensors_in(value):
        for piece, length in zip(pieces, part_lengths(size, num_parts=num_parts), strict=True):
            assert {len(tensor) for tensor in tensors_in(piece)} == {length}


@given(hinted_calls(), PARTS)
def test_parts_share_the_callers_memory(call, num_parts):
    _, (value, hint) = call
    hints = MultiStreamModuleHint(hint)
    own = {tensor.untyped_storage().data_ptr() for tensor in tensors_in(value)}
    for args, _ in split_arguments(((value,), {}), hint=hints, num_parts=num_parts):
        assert {tensor.untyped_storage().data_ptr() for tensor in tensors_in(args[0])} <= own


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_part_lengths_are_even_and_add_up(size, num_parts):
    lengths = part_lengths(size, num_parts=num_parts)
    assert sum(lengths) == size
    assert len(lengths) == max(1, min(size, num_parts))
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)
