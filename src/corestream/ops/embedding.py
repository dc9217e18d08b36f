"""Rows of embedding tables next to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from corestream import _native

_native.torch_ext  # noqa: B018 (registers the operator: models that call it can be loaded)


@dataclass(frozen=True, kw_only=True)
class EmbeddingPart:
    """Columns of a join: a row of a table for each sample.

    Attributes:
        index: (batch), int64 or int32, of any stride.
        table: (rows, width), the weight of an ``nn.Embedding``.

    Thread-safe: a value that never changes.
    """

    index: Tensor
    table: Tensor


def joined_embeddings(parts: Sequence[EmbeddingPart | Tensor]) -> Tensor:
    """``torch.cat`` along dim 1 of embeddings and matrices, without a copy of what is looked up.

    A recommender looks a sample up in dozens of tables: torch does so table by table, and copies
    all once more to have them in one place.

    Args:
        parts: In the order of their columns; a matrix, (batch, width), is copied.

    Returns:
        (batch, widths of all parts), of the tables' dtype.

    Raises:
        ValueError: There is no part.
        IndexError: A table has no such row.
        RuntimeError: The sizes or dtypes do not fit.

    Example:
        >>> import torch
        >>> table, index = torch.randn(100, 8), torch.tensor([3, 99])
        >>> dense = torch.randn(2, 5)
        >>> joined = joined_embeddings([dense, EmbeddingPart(index=index, table=table)])
        >>> torch.equal(joined, torch.cat([dense, table[index]], 1))
        True

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    if not parts:
        raise ValueError(f"parts must hold a part; got {parts!r}; pass what is to be joined")
    result: Tensor = torch.ops.corestream.joined_embeddings(
        [part if isinstance(part, Tensor) else part.index for part in parts],
        [part if isinstance(part, Tensor) else part.table for part in parts],
        [int(not isinstance(part, Tensor)) for part in parts],
    )
    return result
