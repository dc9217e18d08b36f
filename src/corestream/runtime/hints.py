"""The rule that says which tensors are cut, along which dimension."""

from __future__ import annotations

from typing import Any, TypeAlias

# An int is a dimension, None is "whole"; containers are lists, tuples and dicts of hints.
HintTree: TypeAlias = Any


class MultiStreamModuleHint:
    """Says how inputs are split over the streams, or how outputs are joined.

    It mirrors the arguments of the model's ``forward`` (for an input hint) or what it returns
    (for an output hint). Each leaf is an int, the dimension to cut or join along, or None: the
    value goes whole to every stream, or is taken from the first one. A leaf that stands where
    the value is a container holds for every tensor in it.

    Args:
        *args: One entry per positional argument; for an output hint the value returned, where
            several entries mean a tuple.
        **kwargs: One entry per keyword argument; for an output hint the entries of a dict.

    Raises:
        TypeError: A leaf is neither an int nor None, or a container is of another type.

    Example:
        >>> from corestream import MultiStreamModuleHint
        >>> MultiStreamModuleHint(0, {"mask": 0, "table": None}, scale=None)
        MultiStreamModuleHint(0, {'mask': 0, 'table': None}, scale=None)

    Source: ``ipex.cpu.runtime.MultiStreamModuleHint`` of Intel Extension for PyTorch.

    Thread-safe: a value that never changes.
    """

    __slots__ = ("args", "kwargs")

    def __init__(self, *args: HintTree, **kwargs: HintTree) -> None:
        for index, hint in enumerate(args):
            _check(hint, path=f"[{index}]")
        for name, hint in kwargs.items():
            _check(hint, path=f".{name}")
        self.args: tuple[HintTree, ...] = args
        self.kwargs: dict[str, HintTree] = kwargs

    def as_output(self) -> HintTree:
        """The tree for one returned value.

        Returns:
            The single positional entry, a tuple of several, or the dict of keyword entries.

        Raises:
            ValueError: It has positional and keyword entries, or none.

        Thread-safe; never changes.
        """
        if bool(self.args) == bool(self.kwargs):
            raise ValueError(
                f"output_concat_hint must have positional entries (a value or tuple) or keyword "
                f"entries (a dict); got {self!r}; give one kind"
            )
        if self.kwargs:
            return self.kwargs
        return self.args[0] if len(self.args) == 1 else self.args

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MultiStreamModuleHint):
            return NotImplemented
        return self.args == other.args and self.kwargs == other.kwargs

    __hash__ = None  # type: ignore[assignment] # it may hold lists

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (self.args, self.kwargs)

    def __repr__(self) -> str:
        entries = [repr(hint) for hint in self.args]
        entries += [f"{name}={hint!r}" for name, hint in self.kwargs.items()]
        return f"MultiStreamModuleHint({', '.join(entries)})"


def _make(args: tuple[HintTree, ...], kwargs: dict[str, HintTree]) -> MultiStreamModuleHint:
    return MultiStreamModuleHint(*args, **kwargs)


def _check(hint: HintTree, *, path: str) -> None:
    if hint is None or (isinstance(hint, int) and not isinstance(hint, bool)):
        return
    if isinstance(hint, list | tuple):
        for index, inner in enumerate(hint):
            _check(inner, path=f"{path}[{index}]")
    elif isinstance(hint, dict):
        for key, inner in hint.items():
            _check(inner, path=f"{path}[{key!r}]")
    else:
        raise TypeError(
            f"hint{path} must be an int, None, or a list, tuple or dict of them; got {hint!r}; "
            f"use a dimension such as 0, or None for a value that is not split"
        )
