"""Convolutions that read what the one before them wrote."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corestream import _native
from corestream.ops.convolution import PackedConvolution, encoded

_native.torch_ext  # noqa: B018 (registers the operator: models that call it can be loaded)


def convolution_chain(
    input: Tensor,  # noqa: A002 (as torch has it)
    convolutions: Sequence[PackedConvolution],
    *,
    residual: Tensor | None = None,
) -> Tensor:
    """One convolution after another, for inference; large images row by row, within the cache.

    What 1 x 1 and depthwise convolutions pass on is often larger than a core's second-level cache:
    4.8 MB in MobileNetV2's first block. There, each row of it is made when the next layer reads it,
    in memory that the rows before it had. Which layers are computed so depends on the sizes and the
    team; the others are as calls of :func:`corestream.ops.convolution`.

    Args:
        input: (batch, channels, height, width), float32 or bfloat16, best channels last.
        convolutions: In their order.
        residual: As the output; added before the limits of the last convolution.

    Returns:
        (batch, output channels of the last, height, width), channels last, of the input's dtype.

    Raises:
        ValueError: There is no convolution.
        RuntimeError: The sizes or dtypes do not fit.

    Example:
        >>> import torch
        >>> from corestream.ops import ConvolutionShape, pack_convolution
        >>> x, wide = torch.randn(1, 8, 5, 5), torch.randn(32, 8, 1, 1)
        >>> each = torch.randn(32, 1, 3, 3)
        >>> pointwise = PackedConvolution(
        ...     packed=pack_convolution(wide), shape=ConvolutionShape((32, 8, 1, 1)), low=0.0
        ... )
        >>> depthwise = PackedConvolution(
        ...     packed=pack_convolution(each, groups=32),
        ...     shape=ConvolutionShape((32, 1, 3, 3), padding=(1, 1), groups=32),
        ... )
        >>> actual = convolution_chain(x, [pointwise, depthwise])
        >>> expected = torch.nn.functional.conv2d(x, wide).relu()
        >>> expected = torch.nn.functional.conv2d(expected, each, padding=1, groups=32)
        >>> torch.allclose(actual, expected, atol=1e-4)
        True

    Source: Alwani, Chen, Ferdman and Milder, Fused-Layer CNN Accelerators (2016).

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    if not convolutions:
        raise ValueError(
            f"convolutions must hold a convolution; got {convolutions!r}; pass what is to be run"
        )
    numbers, limits = encoded(convolutions)
    result: Tensor = torch.ops.corestream.convolution_chain(
        input,
        [one.packed for one in convolutions],
        [one.packed if one.bias is None else one.bias for one in convolutions],
        residual,
        numbers,
        limits,
    )
    return result
