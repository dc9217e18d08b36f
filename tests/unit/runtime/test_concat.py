"""Outputs are joined as one call would have returned them, or refused with their place."""

from __future__ import annotations

import collections
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from corestream.runtime.concat import concat_outputs
from tests.helpers import assert_outputs_match

ADVICE = (
    "; give an output_concat_hint with None to keep the first stream's value, or "
    "concat_output=False for the list of all"
)


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Record:
    values: Any
    label: str = "label"


def halves(dim: int = 0) -> list[torch.Tensor]:
    return list(torch.arange(12.0).view(3, 4).split(2, dim=dim))


WHOLE = torch.arange(12.0).view(3, 4)


def test_tensors_are_joined_along_dim_0():
    assert_outputs_match(concat_outputs(halves()), WHOLE)


@pytest.mark.parametrize("dim", [1, -1])
def test_the_hint_gives_another_dim(dim):
    assert_outputs_match(concat_outputs(halves(1), dim), WHOLE)


def test_none_keeps_the_first_streams_value():
    parts = halves()
    assert concat_outputs(parts, None) is parts[0]


def test_one_output_is_returned_as_it_is():
    output = [object(), torch.tensor(1.0)]
    assert concat_outputs([output]) is output


@pytest.mark.parametrize(
    "make",
    [
        lambda x: [x, (x,)],
        lambda x: (x, x),
        lambda x: Pair(x, [x]),
        lambda x: {"b": x, "a": x},
        lambda x: collections.OrderedDict(b=x),
        lambda x: Record(x),
        lambda x: BaseModelOutput(last_hidden_state=x, hidden_states=(x, x)),
    ],
    ids=["list", "tuple", "namedtuple", "dict", "OrderedDict", "dataclass", "ModelOutput"],
)
def test_containers_are_rebuilt_with_their_type(make):
    assert_outputs_match(concat_outputs([make(part) for part in halves()]), make(WHOLE))


def test_each_leaf_may_have_its_own_dim():
    first, second = halves()
    outputs = [(first, {"t": first.T, "k": 1}), (second, {"t": second.T, "k": 1})]
    joined = concat_outputs(outputs, (0, {"t": 1, "k": None}))
    assert_outputs_match(joined, (WHOLE, {"t": WHOLE.T, "k": 1}))


@pytest.mark.parametrize(
    "value", [3, 2.5, True, "text", b"b", None, torch.float32, torch.Size([2])]
)
def test_equal_values_that_are_no_tensors_are_returned(value):
    assert concat_outputs([[value, halves()[0]], [value, halves()[1]]])[0] == value


def test_an_object_that_every_stream_returns_is_returned():
    shared = object()
    assert concat_outputs([shared, shared]) is shared


def test_joined_containers_are_new():
    outputs = [[part] for part in halves()]
    joined = concat_outputs(outputs)
    assert all(joined is not output for output in outputs)
    assert [len(output[0]) for output in outputs] == [2, 1]


def test_namedtuples_of_one_name_and_fields_are_joined():
    # As TorchScript returns them: a new class each time.
    kinds = [NamedTuple("Made", [("x", Any), ("n", int)]) for _ in halves()]
    joined = concat_outputs([kind(part, 1) for kind, part in zip(kinds, halves(), strict=True)])
    assert type(joined) is kinds[0]
    assert_outputs_match(joined, kinds[1](WHOLE, 1))


@pytest.mark.parametrize(
    ("outputs", "hint", "message"),
    [
        ([1, 2], 0, "output must be equal on every stream; got 1, 2"),
        ([1, True], 0, "output must be equal on every stream; got 1, True"),
        ([None, 1], 0, "output must be equal on every stream; got None, 1"),
        ([{"n": 1}, {"n": 2}], 0, "output['n'] must be equal on every stream; got 1, 2"),
        ([1, 1], (0,), "output must be a container for the hint (0,); got 1"),
        ([WHOLE, WHOLE], [0], "output must be a container for the hint [0]; got a tensor"),
        ([WHOLE, WHOLE], 2, "output must have a dim 2 to be joined along; got shape (3, 4)"),
        ([WHOLE, WHOLE], -3, "output must have a dim -3 to be joined along; got shape (3, 4)"),
        (
            [[torch.tensor(1.0)], [torch.tensor(2.0)]],
            [0],
            "output[0] must have a dim 0 to be joined along; got shape ()",
        ),
        ([[1], (1,)], 0, "output must have one structure; got [1] and (1,)"),
        ([[1], [1, 2]], 0, "output must have one structure; got [1] and [1, 2]"),
        ([{"a": 1}, {"b": 1}], 0, "output must have one structure; got {'a': 1} and {'b': 1}"),
        (
            [Pair(1, 2), (1, 2)],
            0,
            "output must have one structure; got Pair(left=1, right=2) and (1, 2)",
        ),
        ([[1], 1], 0, "output must have one structure; got [1] and 1"),
        (
            [(WHOLE, 1), (WHOLE, 1)],
            (0,),
            "output must have the entries [0] of the hint; got [0, 1]",
        ),
        (
            [{"a": WHOLE}, {"a": WHOLE}],
            {"a": 0, "b": 0},
            "output must have the entries ['a', 'b'] of the hint; got ['a']",
        ),
    ],
)
def test_what_cannot_be_one_output_is_refused(outputs, hint, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message + ADVICE)}$"):
        concat_outputs(outputs, hint)


def test_objects_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match=r"^output must be equal on every stream; got <object"):
        concat_outputs([object(), object()])


def test_a_tensor_on_some_streams_only_is_refused():
    with pytest.raises(ValueError, match=r"^output must be a tensor on every stream; got \["):
        concat_outputs([WHOLE, 1])


@pytest.mark.parametrize("other", [torch.zeros(2, 5), torch.zeros(2, 4, 1), WHOLE.int()])
def test_tensors_that_differ_in_more_than_the_dim_are_refused(other):
    message = (
        r"^output\['x'\] must have one dtype, and one shape but for dim 0, on every stream; got"
    )
    with pytest.raises(ValueError, match=message):
        concat_outputs([{"x": WHOLE}, {"x": other}])
