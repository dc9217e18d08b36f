"""Traces models symbolically, whole or in parts, to see which module reads what.

`torch.fx.Tracer.trace` replaces `nn.Module.__call__` for the whole process while it runs, and
models that other threads run meanwhile then fail. Here each leaf module of a throw-away copy notes
its own calls instead, which nobody else's modules see.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from typing import Any

import torch
from torch import fx, nn

from corestream.optimization.kinds import is_layer
from corestream.optimization.tree import (
    canonical_names,
    copy_structure,
    is_script,
    leaves,
    swap,
    tensors_of,
    without_hooks,
)
from corestream.optimization.wiring import Wiring

# They tell about a tensor without reading its values, which is what a fold changes.
_ABOUT_TENSORS = {"shape", "dtype", "device", "ndim", "layout", "size", "dim", "numel", "stride"}


def trace(model: nn.Module) -> Wiring:
    """The wiring of all parts of the model that can be traced: the whole, else its children's."""
    names = canonical_names(model)
    reader: dict[str, str] = {}
    groups: list[tuple[str, ...]] = []
    outside: set[str] = set()
    for part, graph in _graphs(model, names):
        seen = _Seen(graph)
        reader |= seen.reader()
        groups += seen.same_input()
        outside |= seen.read_outside(prefix=f"{names[part]}." if names[part] else "")
    layers = {name for module, name in names.items() if is_layer(module)}
    return Wiring(reader=reader, same_input=tuple(groups), read_outside=frozenset(outside & layers))


def _graphs(model: nn.Module, names: dict[nn.Module, str]) -> list[tuple[nn.Module, fx.Graph]]:
    """(part, its graph) of the largest parts that can be traced."""
    if is_script(model) or _is_leaf(model):
        return []
    graph = _graph_of(model, names)
    if graph is not None:
        return [(model, graph)]
    return [found for child in dict.fromkeys(model.children()) for found in _graphs(child, names)]


def _is_leaf(module: nn.Module) -> bool:
    """Torch's own modules are known, and what contains no others has nothing to find."""
    is_torchs = type(module).__module__.startswith("torch.nn.")
    is_container = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    return not any(module.children()) or (is_torchs and not is_container)


def _graph_of(model: nn.Module, names: dict[nn.Module, str]) -> fx.Graph | None:
    """What a forward calls, in order; None where its Python code needs to know values."""
    tracer = fx.Tracer()
    tracer.graph = graph = fx.Graph()
    tracer.tensor_attrs = {}
    try:
        parameters = inspect.signature(model.forward).parameters.values()
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            return None
        tracer.root = root = _noting_copy(model, tracer, names=names)
        values = {p.name: tracer.create_proxy("placeholder", p.name, (), {}) for p in parameters}
        positional = [values.pop(p.name) for p in parameters if p.kind is p.POSITIONAL_ONLY]
        with torch.no_grad():
            output = root(*positional, **values)
        tracer.create_node("output", "output", (tracer.create_arg(output),), {})
    except Exception:  # noqa: BLE001 (whatever the user's code raises on being given no tensors)
        return None
    finally:
        # The notes in the copy know the tracer, which knows the copy: weights must not wait for
        # the garbage collector.
        vars(tracer).clear()
    return graph


def _noting_copy(model: nn.Module, tracer: fx.Tracer, *, names: dict[nn.Module, str]) -> nn.Module:
    """A copy over the same weights whose leaves note that they are called, and compute nothing."""
    inner = [m for m in model.modules() if m is not model and _is_leaf(m)]
    shared = [*tensors_of(model), *inner, *(p for m in inner for p in leaves(m))]
    root = copy_structure(model, keep=shared)
    changes: dict[nn.Module, nn.Module] = {}
    for leaf in inner:
        changes[leaf] = nn.Module() if is_script(leaf) else copy.copy(leaf)
        # Its own attribute, of a copy that ends with the trace; the class stays as it is.
        changes[leaf].__dict__["forward"] = _Note(
            tracer, name=names[leaf], writes=bool(getattr(leaf, "inplace", False))
        )
    return without_hooks(swap(root, changes))


class _Note:
    """A leaf's forward: a node in the graph."""

    def __init__(self, tracer: fx.Tracer, *, name: str, writes: bool) -> None:
        self.tracer, self.name, self.writes = tracer, name, writes

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        proxy = self.tracer.create_proxy("call_module", self.name, args, kwargs)
        proxy.node.meta["writes"] = self.writes
        return proxy


class _Seen:
    """Answers about a graph whose call_module nodes go by the names of the whole model."""

    def __init__(self, graph: fx.Graph) -> None:
        self.nodes = list(graph.nodes)
        calls = Counter(str(node.target) for node in self.nodes if node.op == "call_module")
        self.once = {name for name, count in calls.items() if count == 1}

    def _is_called_once(self, node: fx.Node) -> bool:
        return node.op == "call_module" and node.target in self.once

    def reader(self) -> dict[str, str]:
        found = {}
        for node in filter(self._is_called_once, self.nodes):
            readers = [user for user in node.users if not _is_about_tensors(user)]
            if len(readers) != 1 or not self._is_called_once(readers[0]):
                continue
            if readers[0].args == (node,) and not readers[0].kwargs:
                found[str(node.target)] = str(readers[0].target)
        return found

    def same_input(self) -> list[tuple[str, ...]]:
        groups = []
        for node in self.nodes:
            readers = [u for u in node.users if self._is_called_once(u) and u.args == (node,)]
            if len(readers) > 1 and not any(map(_may_write, node.users)):
                groups.append(tuple(str(user.target) for user in readers))
        return groups

    def read_outside(self, *, prefix: str) -> set[str]:
        targets = (str(node.target) for node in self.nodes if node.op == "get_attr")
        return {prefix + target.rpartition(".")[0] for target in targets}


def _is_about_tensors(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _ABOUT_TENSORS
    return node.target is getattr and node.args[1] in _ABOUT_TENSORS


def _may_write(node: fx.Node) -> bool:
    """Whether the node may change its first argument in place."""
    if node.op == "call_module":
        return bool(node.meta.get("writes"))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    is_operator = getattr(node.target, "__module__", "") == "_operator"
    writes = name.endswith("_") or (is_operator and name.startswith("i") and name != "is_")
    return writes or "out" in node.kwargs or node.kwargs.get("inplace") is True
