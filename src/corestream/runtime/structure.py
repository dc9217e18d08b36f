"""Containers of tensors: what is in them, and how to make the same with other contents.

Lists, tuples, namedtuples, dicts and their subclasses, UserDicts (Hugging Face's
``BatchEncoding``), dataclasses and ``ModelOutput`` (a dataclass that is an OrderedDict) are
containers; everything else is a leaf.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

_PLAIN_LEAVES = (int, float, str, bytes, type(None))


# Where a value is: a root's name, or the path of its container and its key there. Written out
# only in errors: formatting every path took a third of a nested call's time.
Path: TypeAlias = Any


def format_path(path: Path) -> str:
    """The path as Python would write it.

    >>> format_path((("args", 0), "mask"))
    "args[0]['mask']"
    """
    if isinstance(path, str):
        return path
    container, key = path
    return f"{format_path(container)}[{key!r}]"


def children(value: Any) -> list[tuple[Any, Any]] | None:
    """(key, child) pairs of a container, in order; None for a leaf."""
    kind = type(value)
    if kind is dict:
        return list(value.items())
    if kind in _PLAIN_LEAVES:
        return None
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, dict | collections.UserDict):
        return list(value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return None


def rebuild(value: Any, contents: Sequence[Any]) -> Any:
    """A container like `value` with `contents` in place of its children, in their order."""
    kind = type(value)
    if kind in (list, tuple):
        return kind(contents)
    if isinstance(value, tuple):
        # namedtuples take their fields one by one; torch.return_types take a sequence.
        return kind(*contents) if hasattr(value, "_fields") else kind(contents)
    if isinstance(value, list):
        fresh = copy.copy(value)
        fresh[:] = contents
        return fresh
    if kind is dict:
        return dict(zip(value, contents, strict=True))
    if isinstance(value, dict | collections.UserDict):
        return _rebuild_mapping(value, contents)
    fresh = copy.copy(value)
    for field, content in zip(dataclasses.fields(value), contents, strict=True):
        object.__setattr__(fresh, field.name, content)
    return fresh


def _rebuild_mapping(value: Any, contents: Sequence[Any]) -> Any:
    items = dict(zip(value, contents, strict=True))
    if dataclasses.is_dataclass(value):
        # ModelOutput keeps each field twice, as an item and as an attribute; only its
        # constructor keeps them the same.
        kind: Any = type(value)
        return kind(**items)
    fresh = copy.copy(value)
    if isinstance(value, collections.UserDict):
        fresh.data = {}
    for key, content in items.items():
        fresh[key] = content
    return fresh
