"""Pooling of channels-last images."""

from __future__ import annotations

import torch
from torch import Tensor

from corestream import _native

_native.torch_ext  # noqa: B018 (registers the operators: models that call them can be loaded)


def max_pool(
    input: Tensor,  # noqa: A002 (as torch has it)
    kernel_size: tuple[int, int],
    *,
    stride: tuple[int, int] | None = None,
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    ceil_mode: bool = False,
) -> Tensor:
    """``torch.nn.functional.max_pool2d`` without indices, for inference.

    torch's own notes where each maximum lies, in 64 bits, also where nobody asks for it. What
    there is no kernel for, and what needs a gradient, torch computes.

    Args:
        input: (batch, channels, height, width), float32 or bfloat16, best channels last.
        kernel_size: Rows and columns of a window.
        stride: From window to window; None: ``kernel_size``.
        padding: What lies on each side of the image and is never the largest.
        dilation: From tap to tap.
        ceil_mode: Whether a window counts that reaches beyond the image.

    Returns:
        (batch, channels, height, width), channels last, of the input's dtype; NaN where a window
        has one.

    Raises:
        RuntimeError: The sizes do not fit.

    Example:
        >>> import torch
        >>> x = torch.randn(1, 8, 6, 6)
        >>> torch.equal(max_pool(x, (2, 2)), torch.nn.functional.max_pool2d(x, 2))
        True

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    result: Tensor = torch.ops.corestream.max_pool(
        input, kernel_size, kernel_size if stride is None else stride, padding, dilation, ceil_mode
    )
    return result


def avg_pool(
    input: Tensor,  # noqa: A002 (as torch has it)
    kernel_size: tuple[int, int],
    *,
    stride: tuple[int, int] | None = None,
    padding: tuple[int, int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """``torch.nn.functional.avg_pool2d``, for inference.

    Windows that overlap share the sums of their columns. What there is no kernel for, and what
    needs a gradient, torch computes.

    Args:
        input: (batch, channels, height, width), float32 or bfloat16, best channels last.
        kernel_size: Rows and columns of a window.
        stride: From window to window; None: ``kernel_size``.
        padding: Zeros on each side of the image.
        ceil_mode: Whether a window counts that reaches beyond the image.
        count_include_pad: Whether a sum is divided by the window's size with its padding.

    Returns:
        (batch, channels, height, width), channels last, of the input's dtype.

    Raises:
        RuntimeError: The sizes do not fit.

    Example:
        >>> import torch
        >>> x = torch.randn(1, 8, 6, 6)
        >>> expected = torch.nn.functional.avg_pool2d(x, 3, 1, padding=1)
        >>> torch.allclose(avg_pool(x, (3, 3), stride=(1, 1), padding=(1, 1)), expected, atol=1e-6)
        True

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    result: Tensor = torch.ops.corestream.avg_pool(
        input,
        kernel_size,
        kernel_size if stride is None else stride,
        padding,
        ceil_mode,
        count_include_pad,
    )
    return result


def adaptive_avg_pool(
    input: Tensor,  # noqa: A002 (as torch has it)
    output_size: tuple[int, int],
) -> Tensor:
    """``torch.nn.functional.adaptive_avg_pool2d``, for inference.

    The mean of a whole image is divided among threads by its channels, a cache line of them
    together. What there is no kernel for, what needs a gradient, and sizes that do not divide the
    image's, torch computes.

    Args:
        input: (batch, channels, height, width), float32 or bfloat16, best channels last.
        output_size: Rows and columns of the output.

    Returns:
        (batch, channels, *output_size), channels last, of the input's dtype.

    Raises:
        RuntimeError: The sizes do not fit.

    Example:
        >>> import torch
        >>> x = torch.randn(2, 8, 6, 6)
        >>> torch.allclose(adaptive_avg_pool(x, (1, 1)), x.mean((2, 3), keepdim=True), atol=1e-6)
        True

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    result: Tensor = torch.ops.corestream.adaptive_avg_pool(input, output_size)
    return result
