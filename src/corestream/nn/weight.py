"""The `weight` of a packed layer: a tensor that is decoded when it is read.

Code around a layer asks its weight for dtype, device and shape, counts parameters, or reads and
writes values. All of that works; only the first few cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

import torch
from torch.utils import _pytree as pytree

__all__ = ["PackedWeight"]


class Source(Protocol):
    """Where the values of a `PackedWeight` are."""

    shape: torch.Size
    dtype: torch.dtype
    original_dtype: torch.dtype
    device: torch.device

    def current(self) -> torch.Tensor:
        """The values, not to be written to."""
        ...

    def assign(self, weight: torch.Tensor) -> None:
        """Takes new values."""
        ...


class PackedWeight(torch.Tensor):
    """A parameter whose values live in the layout of a kernel.

    An operator that reads it gets the plain values; one that writes to it has the layer pack the
    new values when it next runs. A view of it is a copy: writes to that are lost.
    """

    source: Source

    def __new__(cls, source: Source, requires_grad: bool = False) -> Self:
        """A weight whose values are in `source`."""
        # One NaN in the place of all values, not a tensor without storage: a trace of the model
        # has it as an attribute, and torch.jit.save reads every attribute's memory.
        nan = torch.full((1,), float("nan"), dtype=source.dtype, device=source.device)
        blank = nan.expand(source.shape)
        self: Self = torch.Tensor._make_subclass(cls, blank, requires_grad)
        self.source = source
        # What torch.nn.Parameter does for the subclasses of Tensor.
        self._is_param = True
        return self

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs the operator on the plain values."""
        kwargs = kwargs or {}
        if func is torch.ops.aten.detach.default:
            return PackedWeight(args[0].source)
        if func is torch.ops.aten.copy_.default and isinstance(args[0], cls):
            return _overwrite(args[0], args[1])
        written = _written(func, args, kwargs)
        plain = {id(leaf): _values(leaf, is_written=True) for leaf in written}

        def unwrap(leaf: Any) -> Any:
            if not isinstance(leaf, cls):
                return leaf
            return plain[id(leaf)] if id(leaf) in plain else _values(leaf, is_written=False)

        args, kwargs = pytree.tree_map(unwrap, (args, kwargs))
        results = func(*args, **kwargs)
        for leaf in written:
            leaf.source.assign(plain[id(leaf)].to(leaf.source.original_dtype))
        back = {id(plain[id(leaf)]): leaf for leaf in written}
        return pytree.tree_map(lambda result: back.get(id(result), result), results)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Writes to part of the values."""
        values = self.source.current().clone()
        values[index] = value
        self.source.assign(values.to(self.source.original_dtype))

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedWeight:
        """A weight over a copy of the source, which the copied layer shares."""
        import copy

        if id(self) not in memo:
            source = copy.deepcopy(self.source, memo)
            memo[id(self)] = PackedWeight(source, self.requires_grad)
        found: PackedWeight = memo[id(self)]
        return found

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., PackedWeight], tuple[Any, ...]]:
        """Pickles the source, which pickles exact values."""
        return PackedWeight, (self.source, self.requires_grad)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """As of a parameter."""
        return f"Packed parameter containing:\n{self.source.current()!r}"


def _values(leaf: PackedWeight, *, is_written: bool) -> torch.Tensor:
    values = leaf.source.current()
    return values.clone() if is_written else values


def _overwrite(weight: PackedWeight, values: torch.Tensor) -> PackedWeight:
    """In the type of the exact values: what is computed in may be narrower."""
    source = weight.source
    plain = torch.empty(source.shape, dtype=source.original_dtype, device=source.device)
    source.assign(plain.copy_(values))
    return weight


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[PackedWeight]:
    """The packed weights among the arguments that the operator writes to."""
    if not func._schema.is_mutable:
        return []
    found: list[Any] = []
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[number] if number < len(args) else kwargs.get(argument.name)
            found += pytree.tree_leaves(value)
    return [leaf for leaf in found if isinstance(leaf, PackedWeight)]
