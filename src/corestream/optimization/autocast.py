"""Runs a forward under autocast, and layers in a low precision, with hooks that put all back."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


class _Entered(threading.local):
    def __init__(self) -> None:
        self.scopes: list[torch.autocast] = []


# Of each thread, as autocast is; a model can be copied and pickled while others run it.
_entered = _Entered()

_TABLES = ("_forward_pre_hooks", "_forward_hooks", "_forward_hooks_always_called")


class _Scope:
    """A pair of hooks around a module's forward."""

    dtype: torch.dtype

    def attach(self, module: nn.Module) -> None:
        """Outermost on the way in; on the way out users' hooks see the results."""
        detach(module)
        module.register_forward_pre_hook(self._enter, prepend=True)
        module.register_forward_hook(self._leave, prepend=True, always_call=True)

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        raise NotImplementedError

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        raise NotImplementedError

    def _begin(self, *, is_enabled: bool) -> None:
        scope = torch.autocast("cpu", dtype=self.dtype, enabled=is_enabled)
        scope.__enter__()  # type: ignore[no-untyped-call]
        _entered.scopes.append(scope)

    @staticmethod
    def _end() -> None:
        # Empty if another hook raised before this scope was entered.
        if _entered.scopes:
            _entered.scopes.pop().__exit__(None, None, None)


@dataclasses.dataclass(frozen=True)
class ModelScope(_Scope):
    """Around a model's forward: autocast, and outputs in the dtype they had without it.

    What is between the layers, attention and sums of activations of two dtypes, follows
    autocast's rules. Other entry points, such as ``model.encode(x)``, run without it and stay
    right, since each layer then answers in the dtype of its input.
    """

    dtype: torch.dtype

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """The forward begins."""
        self._begin(is_enabled=True)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """The forward ends, perhaps with an exception, and then without an output."""
        self._end()
        return map_tensors(output, lambda t: t.float() if t.dtype is self.dtype else t)


@dataclasses.dataclass(frozen=True)
class LayerScope(_Scope):
    """Around a packed layer's forward: its input in the dtype that it computes in.

    A packed layer takes that dtype only, and leaves its fast path under autocast.
    """

    dtype: torch.dtype

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The layer is called."""
        self._begin(is_enabled=False)
        return tuple(
            a.to(self.dtype) if isinstance(a, Tensor) and a.is_floating_point() else a for a in args
        )

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Under autocast the result stays as it is, as that of autocast's own operators."""
        self._end()
        if torch.is_autocast_enabled("cpu") or not isinstance(output, Tensor):
            return output
        return output.float()


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
