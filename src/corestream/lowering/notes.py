"""What a mode has seen of tensors, as long as it holds."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

Fact = TypeVar("Fact")


class Notes(Generic[Fact]):
    """Facts about tensors, which end when a tensor that they rest on is written to."""

    def __init__(self) -> None:
        self._kept: Any = WeakIdKeyDictionary()

    def keep(self, about: Tensor, fact: Fact, *, sources: Sequence[Tensor]) -> None:
        """Notes the fact, unless writes would not be seen: inference tensors do not count them."""
        tensors = (about, *sources)
        if not any(tensor.is_inference() for tensor in tensors):
            seen = [(weakref.ref(tensor), tensor._version) for tensor in tensors]
            self._kept[about] = fact, seen

    def about(self, tensor: object) -> Fact | None:
        """The fact, if it still holds."""
        found = self._kept.get(tensor) if isinstance(tensor, Tensor) else None
        if found is None:
            return None
        fact, seen = found
        kept = [(reference(), version) for reference, version in seen]
        holds = all(one is not None and one._version == version for one, version in kept)
        return fact if holds else None
