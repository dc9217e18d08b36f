"""Joins what the streams returned into what one call would have returned."""

from __future__ import annotations

import enum
from typing import Any

import torch

from corestream import _native
from corestream.runtime.hints import HintTree
from corestream.runtime.structure import Path, children, format_path, rebuild

_COMPARABLE = (int, float, complex, str, bytes, enum.Enum, torch.dtype, torch.device, torch.Size)


class _Default:
    """The hint where none was given: join every tensor along dim 0."""


DEFAULT = _Default()


def concat_outputs(outputs: list[Any], hint: HintTree = DEFAULT) -> Any:
    """Joins one output per stream, of equal structure.

    Tensors are concatenated along the hint's dimension, 0 without a hint. Where the hint is
    None the first stream's value is returned. Values that are no tensors must be equal.

    Raises:
        ValueError: The outputs cannot be one: structures or values differ, a tensor has no dim
            to join along, or the hint does not fit.
    """
    if hint is DEFAULT and len(outputs) > 1:
        joined = _native.torch_ext.concat_plain(outputs)
        if joined is not NotImplemented:
            return joined
    return _concat(outputs, hint, path="output")


def _concat(outputs: list[Any], hint: HintTree, *, path: Path) -> Any:
    first = outputs[0]
    if hint is None or len(outputs) == 1:
        return first
    if isinstance(first, torch.Tensor):
        return _concat_tensors(outputs, hint, path=path)
    pairs = children(first)
    if pairs is None:
        return _common_value(outputs, hint, path=path)
    keys = [key for key, _ in pairs]
    columns = [_children_as(first, output, keys=keys, path=path) for output in outputs]
    hints = _inner_hints(keys, hint, path=path)
    contents = [
        _concat(parts, inner, path=(path, key))
        for key, inner, *parts in zip(keys, hints, *columns, strict=True)
    ]
    return rebuild(first, contents)


def _children_as(first: Any, output: Any, *, keys: list[Any], path: Path) -> list[Any]:
    """The children of `output`, which must have the structure of `first`."""
    pairs = children(output) if _is_like(output, first) else None
    if pairs is None or [key for key, _ in pairs] != keys:
        raise ValueError(_advice(path, f"have one structure; got {first!r} and {output!r}"))
    return [child for _, child in pairs]


def _is_like(output: Any, first: Any) -> bool:
    kind, other = type(first), type(output)
    # TorchScript makes a new class for every NamedTuple that it returns.
    return other is kind or (
        issubclass(kind, tuple)
        and issubclass(other, tuple)
        and hasattr(kind, "_fields")
        and (kind.__name__, kind._fields) == (other.__name__, getattr(other, "_fields", None))
    )


def _advice(path: Path, constraint: str) -> str:
    return (
        f"{format_path(path)} must {constraint}; give an output_concat_hint with None to keep "
        f"the first stream's value, or concat_output=False for the list of all"
    )


def _concat_tensors(outputs: list[Any], hint: HintTree, *, path: Path) -> torch.Tensor:
    first = outputs[0]
    dim = 0 if hint is DEFAULT else hint
    _check_can_be_joined(outputs, dim, path=path)
    # torch.cat would promote: a model's dtype is not ours to change.
    dtype = first.dtype
    for output in outputs:
        if output.dtype is not dtype:
            raise ValueError(_advice(path, _of_one_kind(outputs, dim)))
    try:
        return _native.torch_ext.concat_tensors(outputs, dim)
    except RuntimeError as error:
        raise ValueError(_advice(path, _of_one_kind(outputs, dim))) from error


def _check_can_be_joined(outputs: list[Any], dim: HintTree, *, path: Path) -> None:
    rank = outputs[0].dim()
    if not isinstance(dim, int):
        raise ValueError(_advice(path, f"be a container for the hint {dim!r}; got a tensor"))
    if not -rank <= dim < rank:
        shape = tuple(outputs[0].shape)
        raise ValueError(_advice(path, f"have a dim {dim} to be joined along; got shape {shape}"))
    for output in outputs:
        if not isinstance(output, torch.Tensor):
            raise ValueError(_advice(path, f"be a tensor on every stream; got {outputs!r}"))


def _of_one_kind(outputs: list[torch.Tensor], dim: int) -> str:
    kinds = [f"{output.dtype} of shape {tuple(output.shape)}" for output in outputs]
    return (
        f"have one dtype, and one shape but for dim {dim}, on every stream; got {', '.join(kinds)}"
    )


def _common_value(outputs: list[Any], hint: HintTree, *, path: Path) -> Any:
    first = outputs[0]
    if not (hint is DEFAULT or isinstance(hint, int)):
        raise ValueError(_advice(path, f"be a container for the hint {hint!r}; got {first!r}"))
    for output in outputs[1:]:
        is_same = output is first or (
            isinstance(first, _COMPARABLE) and type(output) is type(first) and output == first
        )
        if not is_same:
            raise ValueError(_advice(path, f"be equal on every stream; got {first!r}, {output!r}"))
    return first


def _inner_hints(keys: list[Any], hint: HintTree, *, path: Path) -> list[HintTree]:
    if hint is DEFAULT or isinstance(hint, int):
        return [hint] * len(keys)
    given = list(hint) if isinstance(hint, dict) else list(range(len(hint)))
    if sorted(map(repr, given)) != sorted(map(repr, keys)):
        raise ValueError(_advice(path, f"have the entries {given} of the hint; got {keys}"))
    return [hint[key] for key in keys] if isinstance(hint, dict) else list(hint)
