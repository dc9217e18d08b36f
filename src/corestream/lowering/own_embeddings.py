"""Joins of embeddings, as recommenders have them, by corestream's kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from corestream.lowering.own_calls import Call
from corestream.ops.embedding import EmbeddingPart, joined_embeddings

# A join of fewer saves too little to look for it.
_LEAST_TABLES = 3
_INDICES = (torch.int64, torch.int32)


def may_join_embeddings(model: nn.Module) -> bool:
    """Whether the model has tables enough."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    return len(tables) > _LEAST_TABLES


@dataclass(frozen=True)
class EmbeddingCall(Call):
    """A row of a table for each sample.

    Attributes:
        index: (batch).
        table: A constant of the model.
    """

    index: Tensor
    table: Tensor

    @classmethod
    def of(
        cls,
        input: Tensor,  # noqa: A002 (as torch has it)
        weight: Tensor,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self | None:
        """None where a sample has more rows than one, or the table would be written to."""
        is_plain = input.dim() == 1 and input.dtype in _INDICES and max_norm is None
        return cls(input, weight.detach()) if is_plain else None

    def sources(self) -> list[Tensor]:
        """As :meth:`Call.sources`."""
        return [self.index]

    def run(self) -> Tensor:
        """As torch's, which goes if the result becomes a part of a join."""
        return nn.functional.embedding(self.index, self.table)


@dataclass(frozen=True)
class JoinedRowsCall(Call):
    """Rows of tables and matrices next to each other.

    Attributes:
        parts: In their order.
        is_stacked: Whether they have a dim of their own.
    """

    parts: tuple[EmbeddingCall | Tensor, ...]
    is_stacked: bool

    @classmethod
    def of(
        cls,
        tensors: Sequence[Tensor],
        dim: int = 0,
        *,
        opened: Callable[[Tensor], Call | None],
        is_stacked: bool,
    ) -> Self | None:
        """Of the arguments of ``cat`` or ``stack``; None where there is little to look up.

        Args:
            tensors: What is joined.
            dim: Along which dim.
            opened: The call of ours that a tensor is the result of, if no one else reads it.
            is_stacked: Whether it is ``stack``.
        """
        if dim not in (1, -2 if is_stacked else -1):
            return None
        if len({tensor.dtype for tensor in tensors}) != 1:
            return None
        if any(tensor.dim() != 2 for tensor in tensors):
            return None
        calls = [opened(tensor) for tensor in tensors]
        found = [call if isinstance(call, EmbeddingCall) else None for call in calls]
        if sum(call is not None for call in found) < _LEAST_TABLES:
            return None
        parts = (call or tensor for call, tensor in zip(found, tensors, strict=True))
        return cls(tuple(parts), is_stacked)

    def sources(self) -> list[Tensor]:
        """As :meth:`Call.sources`."""
        return [part if isinstance(part, Tensor) else part.index for part in self.parts]

    def run(self) -> Tensor:
        """As :meth:`Call.run`."""
        joined: Any = joined_embeddings([_part(part) for part in self.parts])
        result: Tensor = joined.unflatten(1, (len(self.parts), -1)) if self.is_stacked else joined
        return result


def _part(part: EmbeddingCall | Tensor) -> Any:
    if isinstance(part, Tensor):
        return part
    return EmbeddingPart(index=part.index, table=part.table)
