"""What a model is apart from its weights: the part of a profile's key that names it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

# TorchScript numbers classes of one name as a process meets them.
_MANGLE = re.compile(r"___torch_mangle_\d+\.")
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


def model_structure(model: Any) -> str:
    """Hex digits that are the same for models of one structure, in every process.

    For a module: its modules by name, class and options, with the shapes and dtypes of their
    weights; for a script its graph, for a package its bytes. A model that was lowered has the
    structure of what it was made from.
    """
    if structure := getattr(model, "model_structure", ""):
        return str(structure)
    digest = hashlib.sha256()
    for text in _describe(model):
        digest.update(text.encode(errors="replace") + b"\0")
    return digest.hexdigest()


def _describe(model: Any) -> Iterator[str]:
    if isinstance(model, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        yield "script"
        yield from _describe_script(model)
    elif isinstance(model, torch.nn.Module):
        yield "module"
        for name, module in model.named_modules():
            yield from _describe_module(name, module)
    elif isinstance(model, str | os.PathLike):
        yield "package"
        yield _digest_of_file(Path(model))
    else:
        kind = model if hasattr(model, "__qualname__") else type(model)
        yield "callable"
        yield f"{kind.__module__}.{kind.__qualname__}"


def _describe_module(name: str, module: torch.nn.Module) -> Iterator[str]:
    kind = type(module)
    yield f"{name}: {kind.__module__}.{kind.__qualname__}"
    yield _ADDRESS.sub("", module.extra_repr())
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    yield from (f"{key} {tensor.dtype} {tuple(tensor.shape)}" for key, tensor in tensors)


def _describe_script(script: Any) -> Iterator[str]:
    graph = getattr(script, "inlined_graph", None) or script.graph
    names = {value: str(index) for index, value in enumerate(graph.inputs())}
    yield from _describe_block(graph, names)
    if isinstance(script, torch.jit.ScriptModule):
        named = sorted(script.state_dict().items())
        yield from (f"{key} {tensor.dtype} {tuple(tensor.shape)}" for key, tensor in named)


def _describe_block(block: Any, names: dict[Any, str]) -> Iterator[str]:
    """Every operator with where its inputs come from; of constant tensors the shape alone."""
    for node in block.nodes():
        taken = " ".join(names.get(value, "?") for value in node.inputs())
        attributes = " ".join(_describe_attribute(node, name) for name in node.attributeNames())
        for value in node.outputs():
            names[value] = str(len(names))
        yield _MANGLE.sub("", f"{node.kind()}({taken}) {attributes}")
        for inner in node.blocks():
            yield from _describe_block(inner, names)


def _describe_attribute(node: Any, name: str) -> str:
    kind = node.kindOf(name)
    if kind in ("t", "ts"):
        tensors = [node.t(name)] if kind == "t" else node.ts(name)
        return " ".join(f"{tensor.dtype}{tuple(tensor.shape)}" for tensor in tensors)
    # Other kinds are plain values, or have no text that is the same in every process.
    value = getattr(node, kind)(name) if kind in ("s", "ss", "i", "is", "f", "fs") else kind
    return f"{name}={value}"


def _digest_of_file(path: Path) -> str:
    if not path.is_file():  # an unpacked package
        return str(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
