"""What AOTInductor compiled: a package in a folder, run by streams or on the calling thread."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from torch import Tensor

from corestream.lowering.aoti_inputs import METADATA_KEY, InputContract
from corestream.lowering.folders import OwnedFolder, copy_tree

FACTS_FILE = "corestream-artifact.json"

Value = TypeVar("Value")


class _PerProcess(Generic[Value]):
    """A value that is made at its first use, and once more in a forked child.

    A lock or a package that is in use in the parent must not be touched by the child.
    """

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make
        self._locks: dict[int, threading.Lock] = {}
        self._values: dict[int, Value] = {}

    def get(self) -> Value:
        process = os.getpid()
        with self._locks.setdefault(process, threading.Lock()):
            if process not in self._values:
                self._values[process] = self._make()
        return self._values[process]


class AOTInductorArtifact:
    """An unpacked package in a folder of its own, which C++ loads once for all streams.

    Attributes:
        package: The folder, which torch's loader takes as it takes a .pt2 file. It ends with this
            object.

    Thread-safe.
    """

    backend = "aotinductor"
    extra_bytes = 0
    holds_gil = False

    def __init__(self, folder: OwnedFolder) -> None:
        """Takes over `folder`."""
        facts = json.loads((folder.path / FACTS_FILE).read_text())
        self.weight_bytes: int = facts["weight_bytes"]
        self.notes: tuple[str, ...] = tuple(facts["notes"])
        self.package = folder.path
        self._streams = _PerProcess(lambda: _callee(folder))
        self._calls = _PerProcess(lambda: _LoadedPackage.load(folder))

    def callee_source(self) -> Any:
        """The native callee, one for all streams of the process, so that weights exist once."""
        return self._streams.get()

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs on the calling thread, with a team of the size that it was compiled for.

        The first such call loads a copy of the weights beside that of the streams.
        """
        return self._calls.get()(args, kwargs)

    def write(self, folder: Path) -> None:
        """Writes what :meth:`read` needs into an empty folder."""
        copy_tree(self.package, folder)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The artifact that :meth:`write` wrote."""
        own = OwnedFolder()
        copy_tree(folder, own.path)
        return cls(own)


@dataclass(frozen=True)
class _CallFormat:
    """How arguments become the package's flat tensors, and its flat outputs a value."""

    contract: InputContract
    in_spec: Any
    out_spec: Any
    # Streams load the package anew after a fork, also when nothing else is left of the artifact.
    folder: OwnedFolder

    @classmethod
    def of(cls, folder: OwnedFolder, call_spec: Sequence[str]) -> Self:
        from torch.utils import _pytree as pytree

        (metadata,) = folder.path.rglob("*.wrapper_metadata.json")
        contract = InputContract.from_text(json.loads(metadata.read_text())[METADATA_KEY])
        in_spec, out_spec = map(pytree.treespec_loads, call_spec)
        return cls(contract, in_spec, out_spec, folder)

    def flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        from torch.export._tree_utils import reorder_kwargs
        from torch.utils import _pytree as pytree

        leaves, spec = pytree.tree_flatten((args, reorder_kwargs(kwargs, self.in_spec)))
        if spec != self.in_spec:
            raise TypeError(
                f"the arguments must have the structure the model was lowered with, "
                f"{self.in_spec}; got {spec}; pass them as in example_inputs"
            )
        return self.contract.fit(leaves)

    def unflatten(self, outputs: list[Tensor]) -> Any:
        from torch.utils import _pytree as pytree

        return pytree.tree_unflatten(outputs, self.out_spec)


def _callee(folder: OwnedFolder) -> Any:
    from corestream import _native
    from corestream.cpu.allowed import allowed_cpus

    # An instance for each stream that can be: one is some hundred bytes per weight tensor.
    callee = _native.torch_ext.AOTInductorCallee(str(folder.path), len(allowed_cpus()))
    call_format = _CallFormat.of(folder, callee.call_spec())
    callee.set_structure(call_format.flatten, call_format.unflatten)
    return callee


@dataclass(frozen=True)
class _LoadedPackage:
    """torch's own loader, with an instance for one call at a time."""

    loader: Any
    call_format: _CallFormat
    # A thread that waits for an instance inside torch keeps the GIL, which the call that has the
    # instance may need to end.
    one_at_a_time: threading.Lock

    @classmethod
    def load(cls, folder: OwnedFolder) -> Self:
        import torch

        loader = torch._C._aoti.AOTIModelPackageLoader(str(folder.path), "model", False, 1, -1)
        call_format = _CallFormat.of(folder, loader.get_call_spec())
        return cls(loader, call_format, threading.Lock())

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = self.call_format.flatten(args, kwargs)
        with self.one_at_a_time:
            outputs = self.loader.boxed_run(tensors)
        return self.call_format.unflatten(outputs)
