"""Finding a memory allocator's library where the loader looks for libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from corestream.launch.options import Allocator

# Names by allocator, the preferred first; tcmalloc without its profilers, where there is a choice.
_NAMES = {
    "jemalloc": ("libjemalloc.so.2", "libjemalloc.so"),
    "tcmalloc": (
        "libtcmalloc_minimal.so.4",
        "libtcmalloc.so.4",
        "libtcmalloc_minimal.so",
        "libtcmalloc.so",
    ),
}
_PACKAGES = {"jemalloc": "libjemalloc2", "tcmalloc": "libtcmalloc-minimal4"}
_USUAL = ("usr/local/lib", "lib64", "usr/lib64", "lib", "usr/lib")
_ELF_KIND = slice(4, 6)
"""Bytes of an ELF file that tell 32 from 64 bits and the byte order."""
_ELF_MACHINE = slice(18, 20)


def find_allocator(
    allocator: Allocator, *, environ: Mapping[str, str], root: str | os.PathLike[str] = "/"
) -> str | None:
    """Return the path of an allocator's library, to be preloaded.

    Searched are `LD_LIBRARY_PATH`, the libraries of this Python and of `CONDA_PREFIX`, the
    folders of /etc/ld.so.conf and the usual ones; files of another architecture are passed over.

    Args:
        allocator: `default` needs no library.
        environ: The environment variables.
        root: The folder that stands for `/` of the loader's own folders.

    Returns:
        An absolute path, or None for `default`.

    Raises:
        FileNotFoundError: The library is nowhere; the message names the package to install.

    Example:
        >>> find_allocator("default", environ={}) is None
        True

    Thread-safe; holds the GIL, except inside the reads.
    """
    if allocator == "default":
        return None
    folders = list(dict.fromkeys(_folders(environ, Path(root))))
    for name in _NAMES[allocator]:
        for folder in folders:
            path = folder / name
            if _is_loadable(path):
                return str(path.absolute())
    raise FileNotFoundError(
        f"allocator must be installed; got {allocator!r}, and {_NAMES[allocator][0]} is in none "
        f"of the loader's folders; run: apt-get install {_PACKAGES[allocator]}"
    )


def _folders(environ: Mapping[str, str], root: Path) -> Iterator[Path]:
    for entry in environ.get("LD_LIBRARY_PATH", "").split(":"):
        if entry:
            yield Path(entry)
    for prefix in (environ.get("CONDA_PREFIX"), sys.prefix):
        if prefix:
            yield Path(prefix, "lib")
    yield from _configured(root, "etc/ld.so.conf", depth=0)
    yield from (root / folder for folder in _USUAL)


def _configured(root: Path, name: str, *, depth: int) -> Iterator[Path]:
    """Yield the folders that a configuration file of the loader names, includes followed."""
    try:
        lines = (root / name).read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.partition("#")[0].split()
        if len(words) == 2 and words[0] == "include":
            # A file that includes itself ends somewhere.
            if depth < 4:
                pattern = str(Path("/", name).parent / words[1]).lstrip("/")
                for path in sorted(root.glob(pattern)):
                    yield from _configured(root, str(path.relative_to(root)), depth=depth + 1)
        elif words and words[0].startswith("/"):
            yield root / words[0].lstrip("/")


def _is_loadable(path: Path) -> bool:
    """Whether it is a library of this interpreter's architecture; ld.so ignores any other."""
    own, other = _elf_header(Path(sys.executable)), _elf_header(path)
    if other is None:
        return False
    return own is None or (
        own[_ELF_KIND] == other[_ELF_KIND] and own[_ELF_MACHINE] == other[_ELF_MACHINE]
    )


def _elf_header(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError:
        return None
    return header if header.startswith(b"\x7fELF") and len(header) == 20 else None
