"""Convolutions of channels-last images with what follows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from corestream import _native

_native.torch_ext  # noqa: B018 (registers the operators: models that call them can be loaded)

# Flags of what a convolution has.
_WEIGHT, _BIAS, _LOW, _HIGH = 1, 2, 4, 8
_NUMBERS = 12


@dataclass(frozen=True)
class ConvolutionShape:
    """What a 2d convolution is but for its tensors.

    Attributes:
        weight_size: Output channels, input channels of a group, height and width of the kernel.
        stride: Rows and columns of the input from one output to the next.
        padding: Rows and columns of zeros on each side.
        dilation: Rows and columns of the input from one tap to the next.
        groups: 1, or as many as channels (depthwise).

    Thread-safe: a value that never changes.
    """

    weight_size: tuple[int, int, int, int]
    _: KW_ONLY
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class PackedConvolution:
    """A convolution with limits: all of it but its images.

    Attributes:
        packed: What :func:`pack_convolution` or ``pack_winograd`` made of the weight.
        shape: The convolution.
        bias: (output channels), float32; None for none.
        low: The least output: 0 for a ReLU; None for no limit.
        high: The largest output: 6 for a ReLU6; None for no limit.

    Thread-safe: a value that never changes.
    """

    packed: Tensor
    shape: ConvolutionShape
    bias: Tensor | None = None
    low: float | None = None
    high: float | None = None


def encoded(
    convolutions: Sequence[PackedConvolution | None],
) -> tuple[list[int], list[float]]:
    """As operators of several convolutions are told of them (csrc/torch/encoded_convolutions.h).

    Args:
        convolutions: None where there is none.

    Returns:
        12 numbers and 2 limits of each, which tensors go with.

    Thread-safe.
    """
    numbers: list[int] = []
    limits: list[float] = []
    for one in convolutions:
        if one is None:
            numbers += [0] * _NUMBERS
            limits += [0.0, 0.0]
            continue
        has = _WEIGHT
        for value, flag in ((one.bias, _BIAS), (one.low, _LOW), (one.high, _HIGH)):
            has |= 0 if value is None else flag
        shape = one.shape
        numbers += [has, *shape.weight_size, *shape.stride, *shape.padding, *shape.dilation]
        numbers.append(shape.groups)
        # What is absent is not looked at.
        limits += [one.low or 0.0, one.high or 0.0]
    return numbers, limits


def has_convolution_kernel(dtype: torch.dtype, shape: ConvolutionShape) -> bool:
    """Whether :func:`convolution` computes it by itself on this CPU.

    Args:
        dtype: Of the input.
        shape: The convolution.

    Returns:
        True with AVX2 or AVX-512 for float32, and with AVX-512 BF16 for bfloat16: dense kernels of
        up to 49 taps, and depthwise ones of 3 x 3 and 5 x 5.

    Example:
        >>> import torch
        >>> has_convolution_kernel(torch.float64, ConvolutionShape((8, 8, 1, 1)))
        False

    Thread-safe; a lookup that holds the GIL.
    """
    return bool(
        _native.torch_ext.has_convolution_kernel(
            dtype, shape.weight_size, shape.stride, shape.padding, shape.dilation, shape.groups
        )
    )


def pack_convolution(weight: Tensor, groups: int = 1) -> Tensor:
    """The weight in the order in which the kernel reads it.

    Args:
        weight: (output channels, input channels of a group, height, width), as that of a
            ``Conv2d``; float32 or bfloat16.
        groups: 1, or as many as channels.

    Returns:
        One dim or two, which tell the order; of the same dtype, or float32 if depthwise.

    Raises:
        RuntimeError: There is no packed form of such a weight, or it is empty.

    Example:
        >>> import torch
        >>> pack_convolution(torch.ones(20, 3, 1, 1)).numel()  # 20 outputs, padded to 32
        96

    Thread-safe; releases the GIL.
    """
    packed: Tensor = torch.ops.corestream.pack_convolution(weight, groups)
    return packed


def convolution(
    input: Tensor,  # noqa: A002 (as torch has it)
    packed: Tensor,
    *,
    shape: ConvolutionShape,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Tensor:
    """``clamp(conv2d(input, weight, bias) + residual, low, high)``, for inference.

    oneDNN's kernels are as fast, but a call of this one takes less time on the way to it
    (docs/lower.md), and what follows the convolution is done while its results are in registers.
    What there is no kernel for, torch computes, from a weight that is unpacked in every call.

    Args:
        input: (batch, channels, height, width), float32 or bfloat16, best channels last.
        packed: What :func:`pack_convolution` or ``pack_winograd`` made of the weight.
        shape: The convolution.
        bias: (output channels), float32.
        residual: As the output; added before the limits.
        low: The least output: 0 for a ReLU; None for no limit.
        high: The largest output: 6 for a ReLU6.

    Returns:
        (batch, output channels, height, width), channels last, of the input's dtype.

    Raises:
        RuntimeError: The sizes or dtypes do not fit.

    Example:
        >>> import torch
        >>> x, weight = torch.randn(1, 8, 5, 5), torch.randn(4, 8, 3, 3)
        >>> shape = ConvolutionShape((4, 8, 3, 3), padding=(1, 1))
        >>> actual = convolution(x, pack_convolution(weight), shape=shape, low=0.0)
        >>> expected = torch.nn.functional.conv2d(x, weight, padding=1).relu()
        >>> torch.allclose(actual, expected, atol=1e-5)
        True

    Source: Dukhan, The Indirect Convolution Algorithm (2019).

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    sizes = shape.weight_size, shape.stride, shape.padding, shape.dilation, shape.groups
    result: Tensor = torch.ops.corestream.convolution(
        input, packed, bias, residual, *sizes, low, high
    )
    return result
