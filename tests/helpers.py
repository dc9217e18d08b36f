"""The one tolerance policy: when two runs of one model count as the same."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from corestream.runtime.structure import children

# A part of a batch may take another kernel than the whole batch (other blocking, a vector product
# in place of a matrix product), which adds the same products in another order. Each of k sums
# rounds by half an ulp, so results differ by at most about k * eps of the largest term, and by
# sqrt(k) * eps as a rule. 16 * eps covers rows of some hundred terms; a wrong weight, a swapped
# row or a lower precision are off by 1000 times as much. bf16 kernels sum in fp32 and round once
# a layer, so that a few ulps cover a few layers.
ULPS = {
    torch.float64: 64,
    torch.float32: 64,
    torch.bfloat16: 4,
    torch.float16: 4,
}


def assert_outputs_match(actual: Any, expected: Any, *, path: str = "output") -> None:
    """Structure, types, shapes and dtypes are equal; floats within ULPS of the largest value.

    Integers, bools and other objects must be equal, quantized tensors in their integers too:
    int8 kernels sum in int32, where the order does not matter.
    """
    assert kind_of(actual) == kind_of(expected), f"{path}: {type(actual)} is not {type(expected)}"
    if isinstance(expected, torch.Tensor):
        _assert_tensors_match(actual, expected, path)
        return
    pairs = children(expected)
    if pairs is None:
        assert actual == expected, f"{path}: {actual!r} is not {expected!r}"
        return
    others = children(actual) or []
    assert [key for key, _ in others] == [key for key, _ in pairs], f"{path}: other entries"
    for (key, value), (_, other) in zip(pairs, others, strict=True):
        assert_outputs_match(other, value, path=f"{path}[{key!r}]")


def _assert_tensors_match(actual: torch.Tensor, expected: torch.Tensor, path: str) -> None:
    assert actual.dtype == expected.dtype, f"{path}: {actual.dtype} is not {expected.dtype}"
    assert actual.shape == expected.shape, f"{path}: {actual.shape} is not {expected.shape}"
    if expected.is_quantized:
        assert actual.q_scale() == expected.q_scale(), f"{path}: other scale"
        actual, expected = actual.int_repr(), expected.int_repr()
    if expected.dtype not in ULPS:
        assert torch.equal(actual, expected), f"{path}: {actual} is not {expected}"
        return
    finite = expected[expected.isfinite()]
    largest = finite.abs().max().item() if finite.numel() else 0.0
    bound = ULPS[expected.dtype] * torch.finfo(expected.dtype).eps * largest
    torch.testing.assert_close(
        actual, expected, rtol=0, atol=bound, equal_nan=True, msg=lambda text: f"{path}: {text}"
    )


def kind_of(value: Any) -> Any:
    """The type; of a namedtuple its name and fields, since TorchScript makes a class per value."""
    fields = getattr(value, "_fields", None)
    return (type(value).__name__, fields) if isinstance(value, tuple) and fields else type(value)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors of lists, tuples and dicts, in order."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
