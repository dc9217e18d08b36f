"""Runs a forward under autocast, and recurrent layers without, by hooks that put all back."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

# What to put back, and how: a scope, or the two settings where dynamo runs the hooks.
_Entry = torch.autocast | tuple[bool, torch.dtype]


class _Entered(threading.local):
    def __init__(self) -> None:
        self.entries: list[_Entry] = []


# Of each thread, as autocast is; a model can be copied and pickled while others run it.
_entered = _Entered()

_TABLES = ("_forward_pre_hooks", "_forward_hooks", "_forward_hooks_always_called")


class _Scope:
    """A pair of hooks around a module's forward."""

    def attach(self, module: nn.Module) -> None:
        """Outermost on the way in; on the way out users' hooks see the results."""
        detach(module)
        module.register_forward_pre_hook(self._enter, prepend=True, with_kwargs=True)
        module.register_forward_hook(self._leave, prepend=True, always_call=True)

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class ModelScope(_Scope):
    """Around a model's forward: autocast, and outputs in the dtype they had without it.

    What is between the layers, attention and sums of activations of two dtypes, follows
    autocast's rules. Other entry points, such as ``model.encode(x)``, run without it and stay
    right, since each layer then answers in the dtype of its input.
    """

    dtype: torch.dtype

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The forward begins."""
        _begin(self.dtype, is_enabled=True)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """The forward ends, perhaps with an exception, and then without an output."""
        _end()
        return map_tensors(output, lambda t: t.float() if t.dtype is self.dtype else t)


@dataclasses.dataclass(frozen=True)
class RecurrentScope(_Scope):
    """Around a recurrent layer: no autocast, and inputs in fp32.

    Autocast sends it to oneDNN in a dtype that there may be no kernel for.
    """

    dtype: torch.dtype

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The layer is called."""
        _begin(self.dtype, is_enabled=False)
        return map_tensors((args, kwargs), lambda t: t.float() if t.dtype is self.dtype else t)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """The layer returns."""
        _end()


def _begin(dtype: torch.dtype, *, is_enabled: bool) -> None:
    entry: _Entry
    if torch.compiler.is_dynamo_compiling():
        # It cannot keep a scope that one function enters and another leaves.
        entry = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
        _set_autocast(is_enabled, dtype)
    else:
        entry = torch.autocast("cpu", dtype=dtype, enabled=is_enabled)
        entry.__enter__()  # type: ignore[no-untyped-call]
    _entered.entries.append(entry)


def _end() -> None:
    if not _entered.entries:  # another hook raised before this scope was entered
        return
    entry = _entered.entries.pop()
    if isinstance(entry, tuple):
        _set_autocast(*entry)
    else:
        entry.__exit__(None, None, None)


def _set_autocast(is_enabled: bool, dtype: torch.dtype) -> None:
    torch.set_autocast_enabled("cpu", is_enabled)
    torch.set_autocast_dtype("cpu", dtype)


def detach(module: nn.Module) -> None:
    """Takes the hooks of every scope off, in place."""
    for name in _TABLES:
        # Tables of its own: a packed layer shares those of the layer it was made of.
        module.__dict__[name] = type(module.__dict__[name])(module.__dict__[name])
    ours = [
        key
        for name in _TABLES[:2]
        for key, hook in module.__dict__[name].items()
        if isinstance(getattr(hook, "__self__", None), _Scope)
    ]
    for name in _TABLES:
        for key in ours:
            module.__dict__[name].pop(key, None)


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """`value` with `function` of each tensor, in containers and, in place, in dataclasses."""

    def visit(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return function(leaf)
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            for field in dataclasses.fields(leaf):
                fresh = pytree.tree_map(visit, getattr(leaf, field.name))
                object.__setattr__(leaf, field.name, fresh)
        return leaf

    return pytree.tree_map(visit, value)
