"""Scaled dot product attention for inference."""

from __future__ import annotations

import torch
from torch import Tensor

from corestream import _native

_native.torch_ext  # noqa: B018 (registers the operator: models that call it can be loaded)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *,
    scale: float | None = None,
) -> Tensor:
    """``softmax(query @ key.T * scale + attn_mask) @ value``, for inference.

    torch's own fused kernel multiplies with MKL, in bf16 as well, which is a quarter to a half of
    what AVX-512 can do on a CPU that MKL does not know. This one multiplies by itself: float32 with
    AVX2 or AVX-512, bfloat16 with AVX-512's dot products. Other dtypes and CPUs, a head size that
    is no multiple of 16, more than 4096 keys, and what needs a gradient go to torch's. A query
    whose keys are all masked gets zeros, as from torch; autocast casts as it does for torch's.

    Args:
        query: (batch, heads, queries, head size), float32 or bfloat16.
        key: (batch, heads, keys, head size), of the same dtype.
        value: (batch, heads, keys, head size), of the same dtype.
        attn_mask: Expands to (batch, heads, queries, keys). Bools say which keys count; numbers,
            of the same dtype, are added to the scores; float32 beside bfloat16 goes to torch's.
        scale: None: one over the root of the head size.

    Returns:
        (batch, heads, queries, head size), of the same dtype, with the heads of a query next to
        each other in memory, as torch's fused kernel has it.

    Raises:
        RuntimeError: The shapes or dtypes do not fit.

    Example:
        >>> import torch
        >>> query, key, value = torch.randn(3, 1, 2, 5, 16)
        >>> expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        >>> torch.allclose(attention(query, key, value), expected, atol=1e-6)
        True

    Source: Vaswani et al., Attention Is All You Need (2017), equation 1.

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    result: Tensor = torch.ops.corestream.attention(query, key, value, attn_mask, scale)
    return result


def has_attention_kernel(dtype: torch.dtype, *, head_size: int, num_keys: int) -> bool:
    """Whether :func:`attention` computes such tensors by itself on this CPU.

    Args:
        dtype: Of query, key and value.
        head_size: Their last dim.
        num_keys: Rows of key and value of a head.

    Returns:
        False where torch's kernel computes them.

    Example:
        >>> import torch
        >>> has_attention_kernel(torch.float64, head_size=64, num_keys=128)
        False

    Thread-safe; a lookup that holds the GIL.
    """
    return bool(_native.torch_ext.has_attention_kernel(dtype, head_size, num_keys))
