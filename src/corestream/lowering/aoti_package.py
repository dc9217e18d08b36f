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

# The package's model for all batch sizes that have none of their own; what C++ programs load.
ANY_BATCH = "model"
_BATCH_PREFIX = "batch_"

Value = TypeVar("Value")


def name_of_batch(size: int) -> str:
    """What the model for batches of one size is called in a package."""
    return f"{_BATCH_PREFIX}{size}"


def model_folder(package: Path, name: str) -> Path:
    """Where torch's loader looks for the model of that name."""
    return package / "data" / "aotinductor" / name


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
    holds_gil = False

    def __init__(self, folder: OwnedFolder) -> None:
        """Takes over `folder`."""
        facts = json.loads((folder.path / FACTS_FILE).read_text())
        self.weight_bytes: int = facts["weight_bytes"]
        self.extra_bytes: int = facts["extra_bytes"]
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
    by_batch: dict[int, InputContract]
    in_spec: Any
    out_spec: Any
    # Streams load the package anew after a fork, also when nothing else is left of the artifact.
    folder: OwnedFolder

    @classmethod
    def of(cls, folder: OwnedFolder, call_spec: Sequence[str]) -> Self:
        from torch.utils import _pytree as pytree

        by_batch = {size: _contract(folder, name_of_batch(size)) for size in _batch_sizes(folder)}
        in_spec, out_spec = map(pytree.treespec_loads, call_spec)
        return cls(_contract(folder, ANY_BATCH), by_batch, in_spec, out_spec, folder)

    def flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        from corestream.runtime.flat_calls import flat_leaves

        leaves = flat_leaves(args, kwargs, spec=self.in_spec)
        return self.by_batch.get(_batch_size(leaves), self.contract).fit(leaves)

    def unflatten(self, outputs: list[Tensor]) -> Any:
        from torch.utils import _pytree as pytree

        return pytree.tree_unflatten(outputs, self.out_spec)


def _batch_sizes(folder: OwnedFolder) -> list[int]:
    """The sizes that have a model of their own."""
    found = model_folder(folder.path, ANY_BATCH).parent.glob(f"{_BATCH_PREFIX}*")
    return sorted(int(path.name.removeprefix(_BATCH_PREFIX)) for path in found)


def _contract(folder: OwnedFolder, name: str) -> InputContract:
    (metadata,) = model_folder(folder.path, name).glob("*.wrapper_metadata.json")
    return InputContract.from_text(json.loads(metadata.read_text())[METADATA_KEY])


def _batch_size(leaves: Sequence[Any]) -> int:
    """By which a model is chosen, here and in C++: dim 0 of the first tensor that has one."""
    sizes = (leaf.shape[0] for leaf in leaves if isinstance(leaf, Tensor) and leaf.dim())
    return next(sizes, -1)


def _callee(folder: OwnedFolder) -> Any:
    from corestream import _native
    from corestream.cpu.allowed import allowed_cpus

    # An instance for each stream that can be: one is some hundred bytes per weight tensor.
    callee = _native.torch_ext.AOTInductorCallee(
        str(folder.path), len(allowed_cpus()), _batch_sizes(folder)
    )
    call_format = _CallFormat.of(folder, callee.call_spec())
    callee.set_structure(call_format.flatten, call_format.unflatten)
    return callee


@dataclass(frozen=True)
class _LoadedPackage:
    """torch's own loaders, with an instance for one call at a time."""

    loader: Any
    by_batch: dict[int, Any]
    call_format: _CallFormat
    # A thread that waits for an instance inside torch keeps the GIL, which the call that has the
    # instance may need to end.
    one_at_a_time: threading.Lock

    @classmethod
    def load(cls, folder: OwnedFolder) -> Self:
        import torch

        import corestream.ops  # noqa: F401 (the operators that a package may call)

        def load(name: str) -> Any:
            return torch._C._aoti.AOTIModelPackageLoader(str(folder.path), name, False, 1, -1)

        loader = load(ANY_BATCH)
        by_batch = {size: load(name_of_batch(size)) for size in _batch_sizes(folder)}
        call_format = _CallFormat.of(folder, loader.get_call_spec())
        return cls(loader, by_batch, call_format, threading.Lock())

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = self.call_format.flatten(args, kwargs)
        loader = self.by_batch.get(_batch_size(tensors), self.loader)
        with self.one_at_a_time:
            outputs = loader.boxed_run(tensors)
        return self.call_format.unflatten(outputs)
