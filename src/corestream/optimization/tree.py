"""Modules in their parents: copying their structure without their weights, and swapping them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def copy_structure(model: nn.Module, *, keep: Iterable[object]) -> nn.Module:
    """A deep copy in which what is to be kept is not copied but shared.

    Raises:
        TypeError: Something in the model, besides its modules and tensors, cannot be copied.
    """
    memo: dict[int, Any] = {id(kept): kept for kept in keep}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise TypeError(
            f"model must be one that copy.deepcopy can copy; got {type(model).__name__}, where it "
            f"fails with {error!r}; pass inplace=True to change the model itself"
        ) from error


def tensors_of(model: nn.Module) -> list[Tensor]:
    """The parameters and buffers that are plain tensors: a packed layer copies its own."""
    plain = (Tensor, nn.Parameter, nn.Buffer)
    return [t for t in (*model.parameters(), *model.buffers()) if type(t) in plain]


def leaves(model: nn.Module) -> list[nn.Module]:
    """The modules that contain no others."""
    return [module for module in model.modules() if not any(module.children())]


def swap(root: nn.Module, changes: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Puts modules in the place of others, wherever those occur; returns the root, if changed.

    Only the parents' tables of children change: no forward, no graph.
    """
    for parent in list(root.modules()):
        for name, child in parent._modules.items():
            if child is not None and child in changes:
                parent._modules[name] = changes[child]
    return changes.get(root, root)


def has_hooks(module: nn.Module) -> bool:
    """Whether something watches or changes the module's calls."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def without_hooks(model: nn.Module) -> nn.Module:
    """Drops all hooks around the calls of a copy, in place."""
    for module in model.modules():
        for name in (
            "_forward_hooks",
            "_forward_pre_hooks",
            "_backward_hooks",
            "_backward_pre_hooks",
        ):
            module.__dict__[name] = type(module.__dict__[name])()
    return model


def with_tensors(module: nn.Module, replace: Mapping[str, Tensor]) -> nn.Module:
    """The module with other parameters and buffers of its own; the given one stays as it is."""
    twin = copy.copy(module)
    for table in ("_parameters", "_buffers"):
        own = dict(getattr(module, table))
        own.update({name: tensor for name, tensor in replace.items() if name in own})
        twin.__dict__[table] = own
    return twin


def own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of the module itself, by name."""
    for table in (module._parameters, module._buffers):
        for name, tensor in table.items():
            if tensor is not None:
                yield name, tensor


def unshare(model: nn.Module, foreign: Iterable[Tensor]) -> None:
    """Gives the model tensors of its own where it has foreign ones; ties between them stay."""
    fresh: dict[Tensor, Tensor] = {}
    strangers = set(foreign)
    for module in model.modules():
        tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for table in tables:
            for name, tensor in table.items():
                if tensor is not None and tensor in strangers:
                    if tensor not in fresh:
                        fresh[tensor] = clone(tensor)
                    table[name] = fresh[tensor]


def clone(tensor: Tensor) -> Tensor:
    """A copy of its own kind, in the same memory format, that needs no gradient."""
    fresh = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(fresh, requires_grad=False)
    return fresh


def canonical_names(model: nn.Module) -> dict[nn.Module, str]:
    """The first name of each module."""
    return {module: name for name, module in model.named_modules()}


def is_script(module: nn.Module) -> bool:
    """Whether TorchScript runs it, whose insides are not Python's."""
    return isinstance(module, torch.jit.ScriptModule)
