"""Linear layers with what follows them."""

from __future__ import annotations

import torch
from torch import Tensor

from corestream import _native

_native.torch_ext  # noqa: B018 (registers the operator: models that call it can be loaded)


def pack_linear(weight: Tensor) -> Tensor:
    """The weight in the order in which the kernel reads it.

    Args:
        weight: (output features, input features), float32 or bfloat16.

    Returns:
        One dim or two, which tell the order, of the same dtype; output features are padded to a
        multiple of 16.

    Raises:
        ValueError: It is no matrix.
        RuntimeError: There is no packed form of its dtype, or it is empty.

    Example:
        >>> import torch
        >>> pack_linear(torch.ones(20, 10)).numel()
        320

    Thread-safe; releases the GIL.
    """
    if weight.dim() != 2:
        raise ValueError(
            f"weight must have 2 dims; got {weight.dim()}; pass (output features, input features)"
        )
    packed: Tensor = torch.ops.corestream.pack_convolution(weight[:, :, None, None], 1)
    return packed


def linear(
    input: Tensor,  # noqa: A002 (as torch has it)
    packed: Tensor,
    *,
    out_features: int,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    gelu: bool = False,
    low: float | None = None,
    high: float | None = None,
) -> Tensor:
    """``clamp(gelu(input @ weight.T + bias + residual), low, high)``, for inference.

    torch multiplies float32 with MKL, which on CPUs that it does not know reaches less than half
    of what AVX-512 can do (``python -m benchmarks products``). What there is no kernel for, torch
    computes, from a weight that is unpacked in every call.

    Args:
        input: (..., input features), float32 or bfloat16.
        packed: What :func:`pack_linear` made of the weight.
        out_features: Rows of the weight.
        bias: (output features), float32.
        residual: As the output.
        gelu: Apply the exact GELU, with an error of 8e-8 of the share.
        low: The least output: 0 for a ReLU; None for no limit.
        high: The largest output.

    Returns:
        (..., output features), of the input's dtype.

    Raises:
        RuntimeError: The sizes or dtypes do not fit.

    Example:
        >>> import torch
        >>> x, weight = torch.randn(3, 5, 8), torch.randn(4, 8)
        >>> actual = linear(x, pack_linear(weight), out_features=4, gelu=True)
        >>> expected = torch.nn.functional.gelu(torch.nn.functional.linear(x, weight))
        >>> torch.allclose(actual, expected, atol=1e-5)
        True

    Source: GELU: Hendrycks and Gimpel (2016), with the error function of Abramowitz and Stegun,
    Handbook of Mathematical Functions, 7.1.26.

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    result: Tensor = torch.ops.corestream.linear(
        input, packed, bias, residual, out_features, gelu, low, high
    )
    return result
