"""The one tolerance policy: when two runs of one model count as the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

# Limits on the largest |actual - expected| / (rms(expected) + |expected|) of an output's elements.
#
# Sums in another order, folded scales and packed kernels leave 1e-6 to 6e-6 in fp32 (ResNet-50,
# MobileNetV2, BERT against float64, random weights). A wrong weight, a swapped channel or a kernel
# that computes in a lower precision leaves 100 times the fp32 limit.
#
# bf16 rounds the activations of every layer to 8 bits. The worst of some thousand outputs of 50
# layers then differs by 0.01 (ResNet-50), 0.015 (BERT), 0.13 (MobileNetV2); in fp16, with three
# bits more, by an eighth of that. So these two say that the model still computes the same
# function: unrelated outputs differ by 1 and more. Whether that is exact enough, only the task's
# accuracy tells.
_TOLERANCES = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.float16: 0.03,
    torch.bfloat16: 0.2,
}

# Models write the lowest finite number where they mean minus infinity: masked logits. It must not
# count in the root mean square.
_MASK = 1e30


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far an output is from the expected one.

    Attributes:
        is_within: Whether the two count as the same.
        error: The largest |actual - expected| / (rms(expected) + |expected|) over all elements,
            with the root mean square of the element's own tensor; infinite where the outputs
            cannot be compared or have to be equal and are not.
        limit: What `error` may be.
        where: The place of the worst element's tensor, such as "output[0]['logits']".
        reason: Why it is not within, in words; empty otherwise.
    """

    is_within: bool
    error: float
    limit: float
    where: str
    reason: str


def default_tolerance(dtype: torch.dtype) -> float:
    """What the error of outputs may be that were computed in `dtype`.

    Args:
        dtype: The lowest precision of the two runs.

    Returns:
        The limit on `Difference.error`.

    Example:
        >>> import torch
        >>> default_tolerance(torch.float32)
        0.0001

    Thread-safe; a lookup that holds the GIL.
    """
    return _TOLERANCES.get(dtype, _TOLERANCES[torch.float32])


def compare(
    actual: Any,
    expected: Any,
    *,
    dtype: torch.dtype,
    tolerance: float | None = None,
    same_dtypes: bool = True,
) -> Difference:
    """Compares two outputs of a model, however nested.

    Tuples, lists, mappings, dataclasses and Hugging Face's ModelOutput must have the same entries,
    tensors the same shape and dtype. NaN and infinities must stand in the same places, integers,
    bools and other objects must be equal. Floats may differ relative to their own size and to that
    of their tensor, for an element near zero in a tensor of ones is as exact as its terms were.

    Args:
        actual: The output that is judged.
        expected: What it should be.
        dtype: The lowest precision of the two runs; it decides the tolerance.
        tolerance: A limit of your own on `Difference.error`; None for the dtype's.
        same_dtypes: Whether floats must have the precision of those expected.

    Returns:
        The verdict, with the worst place and the reason.

    Example:
        >>> import torch
        >>> ones = torch.ones(3)
        >>> compare({"y": ones + 1e-6}, {"y": ones}, dtype=torch.float32).is_within
        True
        >>> compare({"y": ones + 1e-2}, {"y": ones}, dtype=torch.float32).reason
        "output['y'] differs by 0.005, more than 0.0001"

    Thread-safe; computes on the calling thread and releases the GIL in operators.
    """
    limit = default_tolerance(dtype) if tolerance is None else tolerance
    worst = Difference(True, 0.0, limit, "output", "")
    for where, error, reason in _differences(actual, expected, "output", same_dtypes):
        if error > limit:
            reason = reason or f"{where} differs by {error:.2g}, more than {limit:.2g}"
            if worst.is_within or error > worst.error:
                worst = Difference(False, error, limit, where, reason)
        elif error > worst.error:
            worst = Difference(True, error, limit, where, "")
    return worst


def _differences(
    actual: Any,
    expected: Any,
    where: str,
    same_dtypes: bool,
    inside: frozenset[int] = frozenset(),
) -> Iterator[tuple[str, float, str]]:
    """(place, error, reason) of each leaf, or of the container that cannot be walked further."""
    if isinstance(expected, Tensor):
        yield where, *_tensor_error(actual, expected, where, same_dtypes)
        return
    if _kind(actual) != _kind(expected):
        yield where, math.inf, f"{where} is {_short(actual)} instead of {_short(expected)}"
        return
    entries = _entries(expected)
    if entries is None or id(expected) in inside:
        yield where, *_value_error(actual, expected, where)
        return
    others = _entries(actual) or {}
    if list(entries) != list(others):
        text = f"{where} has the entries {list(others)} instead of {list(entries)}"
        yield where, math.inf, text
        return
    for key, value in entries.items():
        place = f"{where}[{key!r}]"
        yield from _differences(others[key], value, place, same_dtypes, inside | {id(expected)})


def _kind(value: Any) -> Any:
    """The type; of a namedtuple its fields, since TorchScript makes a class for each value."""
    return getattr(value, "_fields", type(value))


def _entries(value: Any) -> dict[Any, Any] | None:
    """What a container holds, by key; None for a leaf.

    An object that can be compared with nothing but itself, such as Hugging Face's key-value cache,
    is what its attributes are.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if _is_only_itself(value) and hasattr(value, "__dict__") and not callable(value):
        return dict(vars(value))
    return None


def _is_only_itself(value: Any) -> bool:
    kind: Any = type(value)
    return kind.__eq__ is object.__eq__


def _value_error(actual: Any, expected: Any, where: str) -> tuple[float, str]:
    if isinstance(expected, float):
        return _tensor_error(torch.tensor(actual), torch.tensor(expected), where, True)
    if actual is expected or _is_only_itself(expected) or actual == expected:
        return 0.0, ""
    return math.inf, f"{where} is {_short(actual)} instead of {_short(expected)}"


def _tensor_error(
    actual: Any, expected: Tensor, where: str, same_dtypes: bool
) -> tuple[float, str]:
    if not isinstance(actual, Tensor):
        return math.inf, f"{where} is {_short(actual)} instead of a tensor"
    is_dtype_open = not same_dtypes and actual.is_floating_point() and expected.is_floating_point()
    for name in ("dtype", "shape", "layout")[is_dtype_open:]:
        found, wanted = getattr(actual, name), getattr(expected, name)
        if found != wanted:
            return math.inf, f"{where} has {name} {_short(found)} instead of {_short(wanted)}"
    actual, expected = _plain(actual), _plain(expected)
    if not expected.is_floating_point():
        is_equal = torch.equal(actual, expected)
        return (0.0, "") if is_equal else (math.inf, f"{where} holds other integers or bools")
    is_finite = expected.isfinite()
    finite, wanted = actual[is_finite], expected[is_finite]
    special, same = actual[~is_finite], expected[~is_finite]
    if not (finite.isfinite().all() and special.allclose(same, rtol=0, atol=0, equal_nan=True)):
        return math.inf, f"{where} has NaN or infinities in other places"
    if wanted.numel() == 0:
        return 0.0, ""
    scale = wanted.square().mean().sqrt() + wanted.abs()
    error = (finite - wanted).abs() / scale.clamp(min=torch.finfo(torch.float64).tiny)
    return float(error.max()), ""


def _plain(tensor: Tensor) -> Tensor:
    """Strided; floats and complex numbers as float64, with infinities where masks are meant."""
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.double()
    return tensor.where(tensor.abs() < _MASK, tensor * math.inf)


def _short(value: Any) -> str:
    text = repr(tuple(value) if isinstance(value, torch.Size) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
