"""Cuts a call's arguments into one set of arguments per stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from corestream import _native
from corestream.runtime.hints import HintTree, MultiStreamModuleHint
from corestream.runtime.structure import children, rebuild

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


class _Default:
    """The hint where none was given: cut every tensor along dim 0, unless it has no dim."""


_DEFAULT = _Default()


@dataclass(slots=True)
class _Cut:
    """Stands in a template for the part of tensor number `index`."""

    index: int


@dataclass(slots=True)
class _Container:
    """Stands in a template for a container that holds something cut."""

    like: Any
    contents: list[Any]


def part_lengths(size: int, *, num_parts: int) -> list[int]:
    """How many of `size` items each part gets: the first ``size % num_parts`` one more.

    Fewer items than parts: as many parts as items. No items: one empty part.

    >>> part_lengths(5, num_parts=2), part_lengths(2, num_parts=3), part_lengths(0, num_parts=3)
    ([3, 2], [1, 1], [0])
    """
    count = max(1, min(size, num_parts))
    quotient, remainder = divmod(size, count)
    return [quotient + (part < remainder) for part in range(count)]


def split_arguments(
    arguments: Arguments, *, hint: MultiStreamModuleHint | None, num_parts: int
) -> list[Arguments]:
    """One (args, kwargs) per part, at most `num_parts` of them.

    Tensors that the hint names are cut into views; everything else goes whole to every part.
    Where nothing is cut, or there is one part only, the arguments are returned as they are.

    Raises:
        ValueError: Sizes differ, a dimension does not exist, or the hint does not fit.
        TypeError: The hint names something that is no tensor.
    """
    template = _Template()
    args, kwargs = arguments
    args_hints, kwargs_hints = _argument_hints(arguments, hint)
    args_template = [
        template.add(value, inner, "args", key)
        for key, (value, inner) in enumerate(zip(args, args_hints, strict=True))
    ]
    kwargs_template = {
        key: template.add(value, kwargs_hints[key], "kwargs", key) for key, value in kwargs.items()
    }
    lengths = part_lengths(template.size, num_parts=num_parts)
    if len(lengths) == 1:
        return [arguments]
    parts = _native.torch_ext.split_tensors(template.tensors, template.dims, lengths)
    return [
        (
            tuple(_fill(entry, tensors) for entry in args_template),
            {key: _fill(entry, tensors) for key, entry in kwargs_template.items()},
        )
        for tensors in parts
    ]


def _argument_hints(
    arguments: Arguments, hint: MultiStreamModuleHint | None
) -> tuple[list[HintTree], dict[str, HintTree]]:
    """One hint per argument: those that a hint does not name are whole."""
    args, kwargs = arguments
    if hint is None:
        return [_DEFAULT] * len(args), dict.fromkeys(kwargs, _DEFAULT)
    missing = [name for name in hint.kwargs if name not in kwargs]
    if len(hint.args) > len(args) or missing:
        raise ValueError(
            f"input_split_hint must name arguments of the call; got {hint!r} for {len(args)} "
            f"positional arguments and the keywords {sorted(kwargs)}; pass what the hint names"
        )
    args_hints = [*hint.args, *([None] * (len(args) - len(hint.args)))]
    return args_hints, {name: hint.kwargs.get(name) for name in kwargs}


class _Template:
    """Collects what is cut, and checks it, while the arguments are walked through."""

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []
        self.dims: list[int] = []
        self.size = 0
        self._first_path = ""

    def add(self, value: Any, hint: HintTree, where: str, key: Any) -> Any:
        """`value`, with what is cut replaced by stand-ins; itself if nothing is."""
        if hint is None:
            return value
        if isinstance(value, torch.Tensor):
            return self._cut(value, hint, where, key)
        pairs = children(value)
        if pairs is None:
            return self._leaf(value, hint, where, key)
        path = f"{where}[{key!r}]"
        hints = _inner_hints(pairs, hint, path=path)
        contents = [
            self.add(child, inner, path, inner_key)
            for (inner_key, child), inner in zip(pairs, hints, strict=True)
        ]
        if all(entry is child for entry, (_, child) in zip(contents, pairs, strict=True)):
            return value
        return _Container(value, contents)

    def _cut(self, tensor: torch.Tensor, hint: HintTree, where: str, key: Any) -> Any:
        if hint is _DEFAULT:
            if tensor.dim() == 0:
                return tensor
            dim = 0
        else:
            dim = _checked_dim(tensor, hint, path=f"{where}[{key!r}]")
        size = tensor.shape[dim]
        if not self.tensors:
            self.size = size
            self._first_path = f"{where}[{key!r}]"
        elif size != self.size:
            raise ValueError(
                f"{where}[{key!r}] must have {self.size} items along dim {dim}, as "
                f"{self._first_path} has; got {size}; give an input_split_hint with None for "
                f"tensors that are not split"
            )
        self.tensors.append(tensor)
        self.dims.append(dim)
        return _Cut(len(self.tensors) - 1)

    @staticmethod
    def _leaf(value: Any, hint: HintTree, where: str, key: Any) -> Any:
        if hint is _DEFAULT or value is None:
            return value
        raise TypeError(
            f"{where}[{key!r}] must be a tensor to be split by the hint {hint!r}; got {value!r}; "
            f"use None in the hint for it"
        )


def _checked_dim(tensor: torch.Tensor, hint: HintTree, *, path: str) -> int:
    if not isinstance(hint, int):
        raise ValueError(
            f"the hint for {path} must be an int or None, since it is a tensor; got {hint!r}; "
            f"make the hint's structure that of the arguments"
        )
    if not -tensor.dim() <= hint < tensor.dim():
        raise ValueError(
            f"the hint for {path} must be a dim of a tensor of shape {tuple(tensor.shape)}; "
            f"got {hint}; use None for a tensor that is not split"
        )
    return hint % tensor.dim()


def _inner_hints(pairs: list[tuple[Any, Any]], hint: HintTree, *, path: str) -> list[HintTree]:
    """One hint per child: an int holds for all, what a container hint does not name is whole."""
    if hint is _DEFAULT or isinstance(hint, int):
        return [hint] * len(pairs)
    keys = [key for key, _ in pairs]
    if isinstance(hint, dict):
        unknown = [key for key in hint if key not in keys]
        hints = [hint.get(key) for key in keys]
    else:
        unknown = list(range(len(keys), len(hint)))
        hints = [*hint, *([None] * (len(keys) - len(hint)))]
    if unknown:
        raise ValueError(
            f"the hint for {path} must name its entries {keys}; got {hint!r}, with {unknown} too "
            f"many; make the hint's structure that of the arguments"
        )
    return hints


def _fill(entry: Any, tensors: list[torch.Tensor]) -> Any:
    if isinstance(entry, _Cut):
        return tensors[entry.index]
    if isinstance(entry, _Container):
        return rebuild(entry.like, [_fill(inner, tensors) for inner in entry.contents])
    return entry
