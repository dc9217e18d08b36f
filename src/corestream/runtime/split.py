"""Cuts a call's arguments into one set of arguments per stream."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from corestream import _native
from corestream.runtime.hints import HintTree, MultiStreamModuleHint
from corestream.runtime.structure import Path, children, format_path, rebuild

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


class _Default:
    """The hint where none was given: cut every tensor along dim 0, unless it has no dim."""


_DEFAULT = _Default()


class _Cut(int):
    """Stands in a template for the part of the tensor of this number."""


class _Container:
    """Stands in a template for a container that holds something cut."""

    __slots__ = ("contents", "like")

    def __init__(self, like: Any, contents: list[Any]) -> None:
        self.like = like
        self.contents = contents


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
    args, kwargs = arguments
    if hint is None:
        parts = _native.torch_ext.split_plain(args, kwargs, num_parts)
        if parts is not NotImplemented:
            return parts
    template = _Template()
    args_hints, kwargs_hints = _argument_hints(arguments, hint)
    args_template = [
        template.add(value, inner, ("args", key))
        for key, (value, inner) in enumerate(zip(args, args_hints, strict=True))
    ]
    kwargs_template = {
        key: template.add(value, kwargs_hints[key], ("kwargs", key))
        for key, value in kwargs.items()
    }
    lengths = part_lengths(template.size, num_parts=num_parts)
    if len(lengths) == 1:
        return [arguments]
    parts_of_tensors = _native.torch_ext.split_tensors(template.tensors, template.dims, lengths)
    return [
        (
            tuple(_fill(entry, tensors) for entry in args_template),
            {key: _fill(entry, tensors) for key, entry in kwargs_template.items()},
        )
        for tensors in parts_of_tensors
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
        self._first: Path = ""

    def add(self, value: Any, hint: HintTree, path: Path) -> Any:
        """`value`, with what is cut replaced by stand-ins; itself if nothing is."""
        if hint is None:
            return value
        if isinstance(value, torch.Tensor):
            return self._cut(value, hint, path)
        pairs = children(value)
        if pairs is None:
            return self._leaf(value, hint, path)
        num_cut = len(self.tensors)
        hints = _inner_hints(pairs, hint, path=path)
        contents = [
            self.add(child, inner, (path, key))
            for (key, child), inner in zip(pairs, hints, strict=True)
        ]
        return value if len(self.tensors) == num_cut else _Container(value, contents)

    def _cut(self, tensor: torch.Tensor, hint: HintTree, path: Path) -> Any:
        if hint is _DEFAULT:
            if tensor.dim() == 0:
                return tensor
            dim = 0
        else:
            dim = _checked_dim(tensor, hint, path=path)
        if tensor.layout is not torch.strided or tensor.is_nested:
            raise TypeError(
                f"{format_path(path)} must be a dense tensor to be split; got one of layout "
                f"{tensor.layout}; convert it, or give an input_split_hint with None for it"
            )
        size = tensor.size(dim)
        if not self.tensors:
            self.size = size
            self._first = path
        elif size != self.size:
            raise ValueError(
                f"{format_path(path)} must have {self.size} items along dim {dim}, as "
                f"{format_path(self._first)} has; got {size}; give an input_split_hint with "
                f"None for tensors that are not split"
            )
        self.tensors.append(tensor)
        self.dims.append(dim)
        return _Cut(len(self.tensors) - 1)

    @staticmethod
    def _leaf(value: Any, hint: HintTree, path: Path) -> Any:
        if hint is _DEFAULT or value is None:
            return value
        raise TypeError(
            f"{format_path(path)} must be a tensor to be split by the hint {hint!r}; got "
            f"{value!r}; use None in the hint for it"
        )


def _checked_dim(tensor: torch.Tensor, hint: HintTree, *, path: Path) -> int:
    if not isinstance(hint, int):
        raise ValueError(
            f"the hint for {format_path(path)} must be an int or None, since it is a tensor; "
            f"got {hint!r}; make the hint's structure that of the arguments"
        )
    if not -tensor.dim() <= hint < tensor.dim():
        raise ValueError(
            f"the hint for {format_path(path)} must be a dim of a tensor of shape "
            f"{tuple(tensor.shape)}; got {hint}; use None for a tensor that is not split"
        )
    return hint % tensor.dim()


def _inner_hints(pairs: list[tuple[Any, Any]], hint: HintTree, *, path: Path) -> list[HintTree]:
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
            f"the hint for {format_path(path)} must name its entries {keys}; got {hint!r}, with "
            f"{unknown} too many; make the hint's structure that of the arguments"
        )
    return hints


def _fill(entry: Any, tensors: list[torch.Tensor]) -> Any:
    kind = type(entry)
    if kind is _Cut:
        return tensors[entry]
    if kind is _Container:
        return rebuild(entry.like, [_fill(inner, tensors) for inner in entry.contents])
    return entry
