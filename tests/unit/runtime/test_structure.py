"""Containers are taken apart and made again with their type, order and extras."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from transformers import BatchEncoding
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from corestream.runtime.structure import children, rebuild


class Pair(NamedTuple):
    left: Any
    right: Any


class NamedList(list[Any]):
    name = ""


class Triple(tuple[Any, ...]):
    __slots__ = ()


@dataclass
class Record:
    first: Any
    second: Any
    label: str = "label"


@dataclass(frozen=True, slots=True)
class FrozenRecord:
    first: Any
    second: Any


@dataclass
class Derived:
    base: Any
    double: Any = field(init=False)

    def __post_init__(self) -> None:
        self.double = self.base * 2


CONTAINERS = [
    ([1, 2], [(0, 1), (1, 2)]),
    ((1, 2), [(0, 1), (1, 2)]),
    ((), []),
    (Pair(1, 2), [(0, 1), (1, 2)]),
    (Triple([1, 2]), [(0, 1), (1, 2)]),
    (torch.Size([1, 2]), [(0, 1), (1, 2)]),
    (NamedList([1, 2]), [(0, 1), (1, 2)]),
    ({"b": 1, "a": 2}, [("b", 1), ("a", 2)]),
    (collections.OrderedDict(b=1, a=2), [("b", 1), ("a", 2)]),
    (collections.UserDict(b=1, a=2), [("b", 1), ("a", 2)]),
    (Record(1, 2), [("first", 1), ("second", 2), ("label", "label")]),
    (FrozenRecord(1, 2), [("first", 1), ("second", 2)]),
    (BatchEncoding({"ids": 1, "mask": 2}), [("ids", 1), ("mask", 2)]),
    (
        SequenceClassifierOutput(logits=torch.ones(1), hidden_states=(2,)),
        [("logits", torch.ones(1)), ("hidden_states", (2,))],
    ),
]


@pytest.mark.parametrize(("value", "pairs"), CONTAINERS, ids=lambda v: type(v).__name__)
def test_children_are_keys_and_values_in_order(value, pairs):
    assert children(value) == pairs


@pytest.mark.parametrize(
    "value",
    [1, 1.0, True, "text", b"bytes", None, torch.ones(2), {1, 2}, Record, object(), range(3)],
    ids=lambda v: type(v).__name__,
)
def test_everything_else_is_a_leaf(value):
    assert children(value) is None


@pytest.mark.parametrize("value", [v for v, _ in CONTAINERS], ids=lambda v: type(v).__name__)
def test_rebuilding_gives_the_same_type_with_the_new_contents(value):
    contents = [index + 10 for index in range(len(children(value)))]
    before = children(value)
    fresh = rebuild(value, contents)
    assert type(fresh) is type(value)
    assert children(fresh) == [(key, new) for (key, _), new in zip(before, contents, strict=True)]
    assert children(value) == before
    assert fresh is not value or value == ()


def test_the_order_of_a_dict_is_that_of_the_original():
    assert list(rebuild({"b": 1, "a": 2}, [3, 4]).items()) == [("b", 3), ("a", 4)]


def test_torch_return_types_are_rebuilt():
    value = torch.max(torch.tensor([[1.0, 3.0]]), dim=1)
    fresh = rebuild(value, ["values", "indices"])
    assert type(fresh) is type(value)
    assert (fresh.values, fresh.indices) == ("values", "indices")


def test_a_defaultdict_keeps_its_factory():
    fresh = rebuild(collections.defaultdict(list, a=1), [2])
    assert fresh == {"a": 2}
    assert fresh["new"] == []


def test_a_list_subclass_keeps_its_attributes():
    value = NamedList([1, 2])
    value.name = "kept"
    assert rebuild(value, [3]).name == "kept"


def test_dataclass_fields_that_init_does_not_take_are_set():
    fresh = rebuild(Derived(1), [5, 6])
    assert (fresh.base, fresh.double) == (5, 6)


def test_a_model_output_is_the_same_by_key_and_by_attribute():
    value = BaseModelOutput(last_hidden_state=torch.ones(2), attentions=(torch.ones(1),))
    fresh = rebuild(value, [torch.zeros(3), (torch.zeros(1),)])
    assert torch.equal(fresh.last_hidden_state, torch.zeros(3))
    assert fresh["last_hidden_state"] is fresh.last_hidden_state is fresh[0]
    assert fresh.hidden_states is None
    assert list(fresh) == ["last_hidden_state", "attentions"]


def test_a_batch_encoding_leaves_the_original_alone():
    value = BatchEncoding({"ids": 1}, n_sequences=1)
    fresh = rebuild(value, [2])
    assert (fresh["ids"], value["ids"]) == (2, 1)
    assert fresh.n_sequences == 1


@pytest.mark.parametrize("value", [{"a": 1}, Record(1, 2), collections.UserDict(a=1)])
def test_contents_of_another_length_are_refused(value):
    with pytest.raises(ValueError, match="zip"):
        rebuild(value, [1, 2, 3, 4])
