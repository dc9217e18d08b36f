"""Compiled models on disk, so that the same program is compiled once on a machine."""

from __future__ import annotations

import ctypes
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from corestream.errors import ModelFileError
from corestream.lowering.archive import (
    FORMAT_VERSION,
    UNFINISHED,
    read_archive,
    this_machine,
    write_archive,
)
from corestream.lowering.backend import Artifact

if TYPE_CHECKING:
    from torch.export import ExportedProgram

DEFAULT_LIMIT_BYTES = 8 * 2**30

_SUFFIX = ".pt2"

# A write takes minutes at most; what is older was left by a process that was killed.
_ABANDONED_AFTER_S = 24 * 3600.0


class ModelCache:
    """A folder of saved artifacts, named by what they were compiled from.

    Any number of processes may share it: entries appear at once or not at all, and what another
    process removes meanwhile is compiled again. What cannot be read is ignored, with a note.

    Thread-safe.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        """The cache in `folder`, which is made when the first entry comes.

        Args:
            folder: Files of other names in it are left alone.
            limit_bytes: Beyond it, what was not used for longest is removed.
        """
        self.folder = folder
        self.limit_bytes = limit_bytes

    @classmethod
    def of(cls, cache: bool | str | os.PathLike[str]) -> ModelCache | None:
        """What `lower(cache=...)` means: the user's own cache, none, or one in that folder."""
        if cache is False:
            return None
        return cls(default_folder() if cache is True else Path(cache).expanduser())

    def find(self, key: str, notes: list[str]) -> Artifact | None:
        """The artifact that was stored, or None; appends to `notes` what was wrong with it."""
        path = self._path(key)
        try:
            artifact, _ = read_archive(path, allow_pickle=False)
            os.utime(path)  # the order of removal
        except FileNotFoundError:
            return None
        except (ModelFileError, OSError) as error:
            notes.append(f"ignored a cache entry: {error}")
            return None
        notes.append(f"not compiled: taken from {path}")
        return artifact

    def store(self, key: str, artifact: Artifact, *, notes: list[str]) -> None:
        """Keeps `artifact`, then makes room; appends to `notes` why it could not."""
        path = self._path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_archive(path, artifact, facts={})
            self._make_room()
        except OSError as error:
            notes.append(f"not kept in the cache: {error}")
            return
        if not path.exists():
            notes.append(f"not kept in the cache: larger than its {self.limit_bytes} bytes")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _make_room(self) -> None:
        found = []
        for path in self.folder.iterdir():
            status = _status(path)
            if status is None:
                continue  # another process was faster
            if path.name.startswith(UNFINISHED):
                if time.time() - status.st_mtime > _ABANDONED_AFTER_S:
                    path.unlink(missing_ok=True)
            elif path.suffix == _SUFFIX:
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.limit_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def default_folder() -> Path:
    """Where the user's cache is: ``$XDG_CACHE_HOME/corestream``, or ``~/.cache/corestream``."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rules: a path that is not absolute is to be ignored.
    root = Path(home) if home.startswith("/") else Path.home() / ".cache"
    return root / "corestream"


def program_key(program: ExportedProgram, *, settings: Iterable[Any]) -> str:
    """What names the compiled form of `program`: hex digits of everything that it depends on.

    The graph is what the compiler sees, so that any change of the model's code that changes what
    is computed changes the key, wherever the code is; so do the weights' bytes, the machine, the
    versions and Inductor's settings.

    Args:
        program: What will be compiled.
        settings: What else decides, as values with a telling repr.

    Raises:
        TypeError: The program holds constants other than tensors.
    """
    from torch._inductor import config

    digest = hashlib.sha256()

    def add(*values: Any) -> None:
        for value in values:
            data = value if isinstance(value, bytes) else repr(value).encode()
            digest.update(len(data).to_bytes(8, "little") + data)

    add(FORMAT_VERSION, sorted(this_machine().items()), torch.__version__, *settings)
    add(config.get_hash(), torch.backends.mkldnn.enabled, torch.get_float32_matmul_precision())
    for name, module in program.graph_module.named_modules():
        if isinstance(module, torch.fx.GraphModule):
            add(name, str(module.graph), *_inputs_of(module.graph))
    add(str(program.graph_signature), str(program.range_constraints), str(program.call_spec))
    for name, value in sorted({**program.state_dict, **program.constants}.items()):
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"the constant {name!r} is a {type(value).__name__}, not a tensor")
        add(name, value.dtype, tuple(value.shape), tuple(value.stride()))
        _update(digest, value)
    return digest.hexdigest()


def _inputs_of(graph: torch.fx.Graph) -> list[str]:
    """The sizes that a graph's text leaves out."""
    values = [node.meta.get("val") for node in graph.find_nodes(op="placeholder")]
    return [
        f"{value.dtype} {tuple(value.shape)} {value.stride()}"
        for value in values
        if isinstance(value, torch.Tensor)
    ]


def _update(digest: hashlib._Hash, tensor: torch.Tensor) -> None:
    plain = tensor.detach().contiguous()
    if plain.nbytes:
        digest.update((ctypes.c_ubyte * plain.nbytes).from_address(plain.data_ptr()))


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
