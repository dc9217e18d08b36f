"""Decides how a stream calls a module: in C++ without the GIL where the module allows it."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corestream import _native
from corestream.errors import CorestreamWarning

if TYPE_CHECKING:
    from corestream import _torch

_SLOW_CALLABLES: set[str] = set()


def make_callee(module: Any, *, num_streams: int) -> _torch.Callee:
    """The native callee for `module`, which runs on `num_streams` streams at once.

    Raises TypeError if it is nothing that can be called, FileNotFoundError for a missing package.
    """
    import torch

    if isinstance(module, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return _native.torch_ext.TorchScriptCallee(module)
    # What corestream.lower makes is a module for Python, and something else for streams.
    if callee_source := getattr(module, "callee_source", None):
        module = callee_source()
        if isinstance(module, _native.torch_ext.Callee):
            return module
        return make_callee(module, num_streams=num_streams)
    if isinstance(module, str | os.PathLike):
        return _package_callee(Path(os.fspath(module)), num_streams=num_streams)
    if _is_loaded_package(module):
        return _loaded_package_callee(module, num_streams=num_streams)
    if not callable(module):
        raise TypeError(
            f"module must be a ScriptModule, the path of a .pt2 package, an nn.Module or a "
            f"callable; got {module!r}; pass one of these"
        )
    if isinstance(module, torch.nn.Module):
        _warn_of_gil(type(module).__name__)
    return _native.torch_ext.PythonCallee(module)


def _is_loaded_package(module: Any) -> bool:
    # Who loaded a package has imported this module. To import it for the question loads Inductor:
    # 839 modules and an environment variable that it sets.
    package = sys.modules.get("torch.export.pt2_archive._package")
    return isinstance(module, getattr(package, "AOTICompiledModel", ()))


def _package_callee(path: Path, *, num_streams: int) -> _torch.Callee:
    if not path.exists():
        raise FileNotFoundError(
            f"module must be the path of a .pt2 package; got {str(path)!r}, which does not exist; "
            f"make one with torch._inductor.aoti_compile_and_package"
        )
    callee = _native.torch_ext.AOTInductorCallee(str(path), num_streams)
    return _with_structure(callee)


def _loaded_package_callee(module: Any, *, num_streams: int) -> _torch.Callee:
    if num_streams > 1:
        warnings.warn(
            f"a package loaded by aoti_load_package() has one model instance, so {num_streams} "
            f"streams would run it one after the other unless it was loaded with num_runners; "
            f"pass the path of the .pt2 file instead",
            CorestreamWarning,
            stacklevel=4,
        )
    return _with_structure(_native.torch_ext.AOTInductorCallee(module.loader))


def _with_structure(callee: _torch.AOTInductorCallee) -> _torch.Callee:
    import torch
    from torch.utils import _pytree as pytree

    from corestream.runtime.flat_calls import flat_leaves

    in_text, out_text = callee.call_spec()
    in_spec, out_spec = pytree.treespec_loads(in_text), pytree.treespec_loads(out_text)

    def flatten(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
        leaves = flat_leaves(args, kwargs, spec=in_spec)
        return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

    def unflatten(tensors: list[torch.Tensor]) -> Any:
        return pytree.tree_unflatten(tensors, out_spec)

    callee.set_structure(flatten, unflatten)
    return callee


def _warn_of_gil(name: str) -> None:
    """Once per kind of module: streams that run Python wait for one another."""
    if name in _SLOW_CALLABLES:
        return
    _SLOW_CALLABLES.add(name)
    warnings.warn(
        f"{name} is an nn.Module, whose Python code holds the GIL: streams that run it take "
        f"turns. Pass example_inputs= to have it lowered, or what corestream.lower(model, "
        f"example_inputs) returns, to run it in parallel (docs/lower.md)",
        CorestreamWarning,
        stacklevel=4,
    )


def is_native(callee: _torch.Callee) -> bool:
    """Whether the callee runs without the GIL."""
    return not isinstance(callee, _native.torch_ext.PythonCallee)
