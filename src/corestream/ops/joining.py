"""Convolutions that write into their concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from corestream import _native
from corestream.ops.convolution import PackedConvolution, encoded

_native.torch_ext  # noqa: B018 (registers the operator: models that call it can be loaded)


@dataclass(frozen=True, kw_only=True)
class JoinedPart:
    """Channels of a concatenation: an image, or a convolution of it.

    Attributes:
        input: (batch, channels, height, width), float32 or bfloat16, best channels last.
        convolution: None: the image as it is.

    Thread-safe: a value that never changes.
    """

    input: Tensor
    convolution: PackedConvolution | None = None

    def _weight(self) -> Tensor:
        return self.input if self.convolution is None else self.convolution.packed

    def _bias(self) -> Tensor:
        bias = None if self.convolution is None else self.convolution.bias
        return self.input if bias is None else bias


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
        >>> one = PackedConvolution(
        ...     packed=pack_convolution(weight), shape=ConvolutionShape((4, 8, 1, 1)), low=0.0
        ... )
        >>> parts = [JoinedPart(input=x, convolution=one), JoinedPart(input=x)]
        >>> joined = joined_convolutions(parts)
        >>> expected = torch.cat([torch.nn.functional.conv2d(x, weight).relu(), x], 1)
        >>> torch.allclose(joined, expected, atol=1e-5)
        True

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    if not parts:
        raise ValueError(f"parts must hold a part; got {parts!r}; pass what is to be joined")
    numbers, limits = encoded([part.convolution for part in parts])
    result: Tensor = torch.ops.corestream.joined_convolutions(
        [part.input for part in parts],
        [part._weight() for part in parts],
        [part._bias() for part in parts],
        numbers,
        limits,
    )
    return result
