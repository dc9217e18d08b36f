"""The file of a lowered model: a zip with a manifest and what the backend wrote.

    model/corestream.json            the manifest
    model/data/aotinductor/model/*   AOTInductor: such a file is itself a package that torch's
                                     AOTIModelPackageLoader loads
    model/*                          other backends

Nothing is compressed: weights do not shrink, and loading is as fast as the disk.
"""

from __future__ import annotations

import importlib
import json
import platform
import shutil
import tempfile
import uuid
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from corestream.errors import CorestreamWarning, ModelFileError
from corestream.lowering.backend import Artifact
from corestream.lowering.folders import temporary_prefix
from corestream.lowering.instruction_sets import instruction_sets

FORMAT_VERSION = 1

_KIND = "corestream lowered model"
_ROOT = "model/"
_MANIFEST = "corestream.json"

_ARTIFACTS = {
    "aotinductor": "corestream.lowering.aoti_package:AOTInductorArtifact",
    "eager": "corestream.lowering.eager:EagerArtifact",
    "torchscript": "corestream.lowering.torchscript:TorchScriptArtifact",
}

# Reading these executes pickles.
_PICKLED = {"eager"}

_AGAIN = "lower and save the model again here"

# Begins the names of files that are being written.
UNFINISHED = ".corestream-"


def write_archive(path: Path, artifact: Artifact, *, facts: dict[str, Any]) -> None:
    """Writes `artifact` and `facts`, which go through JSON, to `path` at once or not at all.

    Raises:
        OSError: It cannot be written.
    """
    manifest = {
        "kind": _KIND,
        "format_version": FORMAT_VERSION,
        **this_machine(),
        "backend": artifact.backend,
        "facts": facts,
    }
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        artifact.write(Path(folder))
        files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
        names = {file.relative_to(folder).as_posix(): file for file in files}
        manifest["files"] = {name: file.stat().st_size for name, file in names.items()}
        with _replaced(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
            archive.writestr(_ROOT + _MANIFEST, json.dumps(manifest, indent=1))
            for name, file in names.items():
                archive.write(file, _ROOT + name)


def read_archive(path: Path, *, allow_pickle: bool) -> tuple[Artifact, dict[str, Any]]:
    """The artifact and the facts that :func:`write_archive` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read.
        ModelFileError: It is no such file, damaged, or made for another torch or CPU.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"path must be a file that LoweredModule.save() wrote; got {str(path)!r}, which does "
            f"not exist; save a lowered model there"
        )
    try:
        with (
            zipfile.ZipFile(path) as archive,
            tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder,
        ):
            manifest = _read_manifest(archive, path)
            _check_machine(manifest, path)
            if manifest["backend"] in _PICKLED and not allow_pickle:
                raise ModelFileError(
                    f"{path} must not need pickles; got a model of the {manifest['backend']} "
                    f"backend, whose pickles run code from the file; pass allow_pickle=True if you "
                    f"trust whoever wrote it"
                )
            _extract(archive, manifest["files"], folder=Path(folder))
            return _artifact_class(manifest["backend"]).read(Path(folder)), manifest["facts"]
    except ModelFileError:
        raise
    except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    except RuntimeError as error:  # torch found the contents wrong
        raise _damaged(path, str(error)) from error


def this_machine() -> dict[str, Any]:
    """What a compiled model is bound to."""
    from corestream import __version__

    return {
        "corestream": __version__,
        "torch": torch.__version__.partition("+")[0],
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "instruction_sets": sorted(instruction_sets()),
    }


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(archive.read(_ROOT + _MANIFEST))
    except KeyError:
        raise ModelFileError(
            f"{path} must be a file that LoweredModule.save() wrote; got another kind of archive; "
            f"give .pt2 packages and TorchScript modules to Task or MultiStreamModule themselves"
        ) from None
    if manifest["kind"] != _KIND or manifest["format_version"] != FORMAT_VERSION:
        raise ModelFileError(
            f"{path} must be of format version {FORMAT_VERSION}; got version "
            f"{manifest['format_version']} of {manifest['kind']!r}, written by corestream "
            f"{manifest.get('corestream')}; {_AGAIN}, or load it with that corestream"
        )
    return dict(manifest)


def _check_machine(manifest: dict[str, Any], path: Path) -> None:
    here = this_machine()
    for name, what in (("torch", "torch"), ("machine", "machines of the kind")):
        if manifest[name] != here[name]:
            raise ModelFileError(
                f"{path} was made for {what} {manifest[name]}; got {here[name]} here; {_AGAIN}, or "
                f"load it where {what} is {manifest[name]}"
            )
    if missing := sorted(set(manifest["instruction_sets"]) - set(here["instruction_sets"])):
        raise ModelFileError(
            f"{path} was made on a CPU with the instruction sets {', '.join(missing)}, which this "
            f"one lacks; {_AGAIN}, on the weakest CPU that is to run it"
        )
    if manifest["cpu_capability"] != here["cpu_capability"]:
        warnings.warn(
            f"{path} was made for {manifest['cpu_capability']} and runs on "
            f"{here['cpu_capability']}: results are right, but {_AGAIN} to have it faster",
            CorestreamWarning,
            stacklevel=4,
        )


def _extract(archive: zipfile.ZipFile, sizes: dict[str, int], *, folder: Path) -> None:
    """Extracts the files of the manifest, and checks their names, sizes and checksums."""
    for name, size in sizes.items():
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"the file name {name!r} leaves the archive")
        target = folder / parts
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(_ROOT + name) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, length=2**20)
        if target.stat().st_size != size:
            raise ValueError(f"{name} has {target.stat().st_size} bytes; it had {size}")


def _artifact_class(backend: str) -> Any:
    module, _, name = _ARTIFACTS[backend].partition(":")
    return getattr(importlib.import_module(module), name)


def _damaged(path: Path, reason: str) -> ModelFileError:
    return ModelFileError(
        f"{path} must be a whole file that LoweredModule.save() wrote; got one that is cut short, "
        f"damaged, or something else ({reason}); copy it again, or {_AGAIN}"
    )


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place at the end, unless an exception comes."""
    unfinished = path.parent / f"{UNFINISHED}{uuid.uuid4().hex}.tmp"
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
