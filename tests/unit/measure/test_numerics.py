"""What counts as the same output, and what never does."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from corestream.measure import compare, default_tolerance


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Boxes:
    boxes: torch.Tensor
    labels: torch.Tensor


class Cache:
    """As Hugging Face's key-value caches: no tuple, no dataclass, no comparison."""

    def __init__(self, keys: torch.Tensor) -> None:
        self.layers = [keys]
        self.owner = self


def difference(actual: Any, expected: Any, **options):
    return compare(actual, expected, **{"dtype": torch.float32} | options)


NESTED = {
    "tensor": lambda x: x,
    "tuple": lambda x: (1, x),
    "dict in list": lambda x: [{"y": x, "text": "a"}],
    "namedtuple": lambda x: Pair(x, None),
    "dataclass": lambda x: Boxes(torch.ones(2), x),
    "ModelOutput": lambda x: BaseModelOutput(last_hidden_state=x),
    "object": lambda x: Cache(x),
    "complex": lambda x: torch.complex(x, x),
    "sparse": lambda x: x.to_sparse(),
}


@pytest.mark.parametrize("nest", NESTED.values(), ids=NESTED)
def test_every_container_is_walked(nest):
    x = torch.randn(8, 8)
    near, far = x * (1 + 1e-6), x + 0.01
    assert difference(nest(near), nest(x)).is_within
    found = difference(nest(far), nest(x))
    assert not found.is_within
    assert 1e-3 < found.error < 0.1
    assert "differs by" in found.reason


def test_the_worst_place_is_named():
    ones = torch.ones(3)
    found = difference({"a": ones, "b": [ones * 2]}, {"a": ones, "b": [ones]})
    assert found.where == "output['b'][0]"
    assert found.reason.startswith("output['b'][0] differs by 0.5")


def test_small_elements_are_measured_by_the_whole_tensor():
    expected = torch.tensor([1.0, -1.0, 1e-9])
    assert difference(expected + torch.tensor([0, 0, 1e-6]), expected).is_within
    # Large ones by their own size: one outlier does not make the rest exact.
    assert not difference(expected * torch.tensor([1, 1.001, 1]), expected).is_within


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_each_dtype_has_its_limit(dtype):
    limit = default_tolerance(dtype)
    ones = torch.ones(64, dtype=torch.float64)
    assert difference(ones * (1 + limit), ones, dtype=dtype).is_within
    assert not difference(ones * (1 + 3 * limit), ones, dtype=dtype).is_within
    assert difference(ones * (1 + 3 * limit), ones, dtype=dtype, tolerance=2 * limit).is_within


MISMATCHES = {
    "shape": (torch.ones(2), torch.ones(2, 1), "shape (2,) instead of (2, 1)"),
    "dtype": (torch.ones(2).bfloat16(), torch.ones(2), "dtype torch.bfloat16"),
    "integers": (torch.tensor([1, 2]), torch.tensor([1, 3]), "other integers or bools"),
    "type": ([1], (1,), "output is [1] instead of (1,)"),
    "entries": ({"a": 1}, {"b": 1}, "entries ['a'] instead of ['b']"),
    "length": ([1], [1, 2], "entries [0] instead of [0, 1]"),
    "no tensor": (None, torch.ones(1), "None instead of a tensor"),
    "value": ("a", "b", "'a' instead of 'b'"),
    "nan": (torch.tensor([math.nan, 1]), torch.tensor([1.0, 1]), "NaN or infinities"),
    "no nan": (torch.tensor([1.0, 1]), torch.tensor([math.nan, 1]), "NaN or infinities"),
    "sign": (torch.tensor([math.inf]), torch.tensor([-math.inf]), "NaN or infinities"),
}


@pytest.mark.parametrize("case", MISMATCHES.values(), ids=MISMATCHES)
def test_what_cannot_be_compared_is_never_within(case):
    actual, expected, reason = case
    found = difference(actual, expected, tolerance=1e6)
    assert not found.is_within
    assert found.error == math.inf
    assert reason in found.reason


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([math.nan, math.inf, -math.inf, 1.0]),
        torch.tensor([]),
        torch.zeros(3),
        torch.tensor([1, 2]),
        torch.tensor([True]),
        None,
        2.5,
        "text",
    ],
    ids=repr,
)
def test_anything_is_the_same_as_itself(value):
    assert difference(value, value).error == 0.0


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning")
def test_quantized_tensors_are_compared_by_value():
    x = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)
    y = torch.quantize_per_tensor(torch.ones(3) * 2, 0.1, 0, torch.quint8)
    assert difference(x, x).is_within
    assert not difference(y, x).is_within


def test_floats_of_any_precision_may_be_allowed_but_no_other_kind():
    ones = torch.ones(3)
    for actual, is_within in ((ones.bfloat16(), True), (ones.long(), False), (ones * 1j, False)):
        for one, other in ((actual, ones), (ones, actual)):
            difference = compare(one, other, dtype=torch.float32, same_dtypes=False)
            assert difference.is_within == is_within
    assert not compare(ones.bfloat16(), ones, dtype=torch.bfloat16).is_within


def test_masked_logits_do_not_hide_the_others():
    mask = torch.finfo(torch.float32).min
    expected = torch.tensor([mask, 1.0, -1.0])
    assert difference(expected, expected).is_within
    assert not difference(expected + torch.tensor([0, 0.01, 0]), expected).is_within
    # bf16 rounds the mask to minus infinity.
    assert difference(expected.bfloat16().float(), expected, dtype=torch.bfloat16).is_within


def test_zero_is_not_a_scale_for_errors():
    assert not difference(torch.tensor([1e-6]), torch.zeros(1)).is_within


def test_outputs_that_require_grad_are_compared():
    x = torch.ones(2, requires_grad=True) * 2
    assert difference(x, x.detach()).is_within
