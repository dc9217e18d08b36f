"""Convolutions that write into their concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from corestream import _native
from corestream.ops.convolution import ConvolutionShape

_native.torch_ext  # noqa: B018 (registers the operator: models that call it can be loaded)

# What a part has, as the operator is told.
_WEIGHT, _BIAS, _LOW, _HIGH = 1, 2, 4, 8
_IMAGE = (0,) * 12


@dataclass(frozen=True, kw_only=True)
class JoinedPart:
    """Channels of a concatenation: an image, or a convolution of it.

    Attributes:
        input: (batch, channels, height, width), float32 or bfloat16, best channels last.
        packed: What ``pack_convolution`` made of the weight; None: the image as it is.
        shape: The convolution; None for an image.
        bias: (output channels), float32; None for none.
        low: The least output; None for no limit.
        high: The largest output; None for no limit.

    Raises:
        ValueError: A weight has no shape or a shape no weight, or an image a bias or a limit.

    Thread-safe: a value that never changes.
    """

    input: Tensor
    packed: Tensor | None = None
    shape: ConvolutionShape | None = None
    bias: Tensor | None = None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if (self.packed is None) != (self.shape is None):
            given = "packed" if self.shape is None else "shape"
            raise ValueError(
                f"packed and shape must be given together; got only {given}; pass what "
                f"pack_convolution made of the weight, and its ConvolutionShape"
            )
        is_bare = self.bias is None and self.low is None and self.high is None
        if self.packed is None and not is_bare:
            raise ValueError(
                "an image must have no bias and no limits; got some; give them to a convolution"
            )

    def _numbers(self) -> tuple[int, ...]:
        if self.shape is None:
            return _IMAGE
        has = _WEIGHT
        for value, flag in ((self.bias, _BIAS), (self.low, _LOW), (self.high, _HIGH)):
            has |= 0 if value is None else flag
        one = self.shape
        return (has, *one.weight_size, *one.stride, *one.padding, *one.dilation, one.groups)

    def _limits(self) -> tuple[float, float]:
        # What is absent is not looked at.
        return self.low or 0.0, self.high or 0.0


def joined_convolutions(parts: Sequence[JoinedPart]) -> Tensor:
    """``torch.cat(parts, dim=1)`` of convolutions without a copy of what they compute.

    Args:
        parts: In the order of their channels; images among them are copied.

    Returns:
        (batch, channels of all parts, height, width), channels last, of the inputs' dtype.

    Raises:
        ValueError: There is no part.
        RuntimeError: The sizes or dtypes do not fit.

    Example:
        >>> import torch
        >>> from corestream.ops import ConvolutionShape, pack_convolution
        >>> x, weight = torch.randn(1, 8, 5, 5), torch.randn(4, 8, 1, 1)
        >>> shape = ConvolutionShape((4, 8, 1, 1))
        >>> convolved = JoinedPart(input=x, packed=pack_convolution(weight), shape=shape, low=0.0)
        >>> joined = joined_convolutions([convolved, JoinedPart(input=x)])
        >>> expected = torch.cat([torch.nn.functional.conv2d(x, weight).relu(), x], 1)
        >>> torch.allclose(joined, expected, atol=1e-5)
        True

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    if not parts:
        raise ValueError(f"parts must hold a part; got {parts!r}; pass what is to be joined")
    result: Tensor = torch.ops.corestream.joined_convolutions(
        [part.input for part in parts],
        [part.input if part.packed is None else part.packed for part in parts],
        [part.input if part.bias is None else part.bias for part in parts],
        [number for part in parts for number in part._numbers()],
        [limit for part in parts for limit in part._limits()],
    )
    return result
