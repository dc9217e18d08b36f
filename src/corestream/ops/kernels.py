"""What this CPU has kernels of corestream's for."""

from __future__ import annotations

import torch

from corestream import _native


def has_kernels(dtype: torch.dtype) -> bool:
    """Whether this CPU has kernels of ours for a dtype: then no operator of it is only torch's.

    Args:
        dtype: Of the inputs.

    Returns:
        True with AVX2 or AVX-512 for float32, and with AVX-512 BF16 for bfloat16.

    Example:
        >>> import torch
        >>> has_kernels(torch.float64)
        False

    Thread-safe; a lookup that holds the GIL.
    """
    return bool(_native.torch_ext.has_kernels(dtype))
