"""Weights of 3 x 3 and 5 x 5 convolutions for Winograd's algorithm."""

from __future__ import annotations

import torch
from torch import Tensor

from corestream import _native
from corestream.ops.convolution import ConvolutionShape


def has_winograd_kernel(dtype: torch.dtype, shape: ConvolutionShape) -> bool:
    """Whether a convolution takes weights of :func:`pack_winograd` on this CPU.

    Args:
        dtype: Of the input.
        shape: The convolution.

    Returns:
        True with AVX2 or AVX-512 for float32, a kernel of 3 x 3 or 5 x 5, and strides, dilations
        and groups of 1.

    Example:
        >>> import torch
        >>> has_winograd_kernel(torch.float32, ConvolutionShape((8, 8, 3, 3), stride=(2, 2)))
        False

    Thread-safe; a lookup that holds the GIL.
    """
    return bool(
        _native.torch_ext.has_winograd_kernel(
            dtype, shape.weight_size, shape.stride, shape.padding, shape.dilation, shape.groups
        )
    )


def pack_winograd(weight: Tensor, *, tile: int = 6) -> Tensor:
    """The weight for a convolution by fewer multiplications.

    ``convolution`` and its like take it in place of what ``pack_convolution`` makes. With tiles of
    6 x 6 inputs, 4 x 4 outputs are made of 36 products instead of 144, or with 5 x 5 taps 2 x 2 of
    36 instead of 100; the weight takes 4 times the memory, or 1.4. With tiles of 4 x 4, 2 x 2
    outputs of 3 x 3 taps are made of 16 products instead of 36, and the weight takes 1.8 times the
    memory: better where reading weights is what takes the time. Errors are as small as those of the
    direct kernel. What it gains is in ``python -m benchmarks products``.

    Args:
        weight: (output channels, input channels, 3, 3) or (..., 5, 5), float32.
        tile: Rows and columns of inputs that are transformed together: 6, or 4 for 3 x 3.

    Returns:
        (tile, tile, ...): for each position of a tile what ``pack_convolution`` makes of the matrix
        there.

    Raises:
        RuntimeError: There is no such form of the weight, or it is empty.

    Example:
        >>> import torch
        >>> from corestream.ops import ConvolutionShape, convolution
        >>> x, weight = torch.randn(1, 8, 6, 6), torch.randn(16, 8, 3, 3)
        >>> actual = convolution(x, pack_winograd(weight), shape=ConvolutionShape((16, 8, 3, 3)))
        >>> torch.allclose(actual, torch.nn.functional.conv2d(x, weight), atol=1e-4)
        True

    Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2016), with the
    points 0, ±1/√2, ±√2 and infinity for tiles of 6.

    Thread-safe; releases the GIL.
    """
    packed: Tensor = torch.ops.corestream.pack_winograd(weight, tile)
    return packed
