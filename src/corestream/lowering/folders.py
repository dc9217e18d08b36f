"""Folders of temporary files that end with their owner."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path


def temporary_prefix() -> str:
    """How the names of this process's temporary folders begin."""
    return f"corestream-{os.getpid()}-"


class OwnedFolder:
    """A temporary folder that is removed when this object dies, at the latest when Python exits.

    A forked child that ends does not remove its parent's.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=temporary_prefix()))
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)


def copy_tree(source: Path, target: Path) -> None:
    """Copies what is in `source` into the folder `target`, by links where the disk allows it."""
    for file in source.rglob("*"):
        if file.is_file():
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(file, copy)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
