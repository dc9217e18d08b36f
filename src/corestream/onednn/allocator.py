"""Which allocator the tensors of this process come from, oneDNN's included."""

from __future__ import annotations

import bisect
import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

# Part of a library's file name: what people call it.
_NAMES = {
    "jemalloc": "jemalloc",
    "tcmalloc": "tcmalloc",
    "mimalloc": "mimalloc",
    "libtbbmalloc": "tbbmalloc",
    "ld-musl": "musl",
    "libc.": "glibc",
    "libc-": "glibc",
}


@dataclass(frozen=True, slots=True)
class Allocator:
    """What answers malloc in this process.

    Attributes:
        name: "glibc", "jemalloc", "tcmalloc", "mimalloc", "tbbmalloc", "musl", or "unknown".
        path: The library it is in; None if it cannot be told.
        uses_huge_pages: Whether torch asks for huge pages for large tensors
            (``THP_MEM_ALLOC_ENABLE=1``).

    Thread-safe: a value that never changes.
    """

    name: str
    path: Path | None
    uses_huge_pages: bool


def allocator() -> Allocator:
    """The allocator below c10's CPU allocator, which all tensors come from.

    oneDNN's activations, reordered weights and scratch memory come from c10's too: torch makes
    the memory and hands it to oneDNN. So a preloaded jemalloc or tcmalloc serves all of them.

    Returns:
        Who defines malloc for this process, preloaded or not.

    Example:
        >>> from corestream.onednn import allocator
        >>> allocator().name != ""
        True

    Thread-safe; reads /proc with the GIL held.
    """
    path = _library_at(_address_of_malloc())
    file_name = path.name if path else ""
    name = next((name for part, name in _NAMES.items() if part in file_name), "unknown")
    is_set = os.environ.get("THP_MEM_ALLOC_ENABLE", "0") == "1"
    return Allocator(name=name, path=path, uses_huge_pages=is_set)


def _address_of_malloc() -> int:
    # The first definition in the order that the dynamic linker searches: a preloaded one wins.
    malloc = ctypes.CDLL(None).malloc
    return ctypes.cast(malloc, ctypes.c_void_p).value or 0


def _library_at(address: int) -> Path | None:
    """The file that is mapped at `address`."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    starts, rows = [], []
    for line in lines:
        fields = line.split(maxsplit=5)
        low, high = (int(text, 16) for text in fields[0].split("-"))
        starts.append(low)
        rows.append((high, fields[5] if len(fields) > 5 else ""))
    index = bisect.bisect_right(starts, address) - 1
    if index < 0:
        return None
    high, file_name = rows[index]
    return Path(file_name) if address < high and file_name.startswith("/") else None
