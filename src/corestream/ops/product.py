"""Batches of small products with a transposed matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from corestream import _native

_native.torch_ext  # noqa: B018 (registers the operator: models that call it can be loaded)


def multiply_transposed(left: Tensor, right: Tensor) -> Tensor:
    """``torch.bmm(left, right.transpose(1, 2))``, for inference.

    The products of each pair of a recommender's features, say. torch's goes to MKL, which on CPUs
    that it does not know takes two to three times as long for matrices of some dozen rows. What
    there is no kernel for, and what needs a gradient, torch computes.

    Args:
        left: (batch, rows, depth), float32 or bfloat16.
        right: (batch, columns, depth), of the same dtype.

    Returns:
        (batch, rows, columns), of the same dtype; autocast casts as it does for ``bmm``.

    Raises:
        RuntimeError: The sizes or dtypes do not fit.

    Example:
        >>> import torch
        >>> left, right = torch.randn(4, 5, 16), torch.randn(4, 3, 16)
        >>> expected = torch.bmm(left, right.transpose(1, 2))
        >>> torch.allclose(multiply_transposed(left, right), expected, atol=1e-5)
        True

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    result: Tensor = torch.ops.corestream.multiply_transposed(left, right)
    return result
