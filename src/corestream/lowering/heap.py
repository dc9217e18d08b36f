"""How much memory the process has in use, to see what a step adds."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

_PAGE_BYTES = 4096


_FIELDS = (
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",
    "usmblks",
    "fsmblks",
    "uordblks",
    "fordblks",
    "keepcost",
)


class _MallInfo2(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_size_t) for name in _FIELDS)


@functools.cache
def _mallinfo2() -> Callable[[], _MallInfo2] | None:
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is None:  # glibc before 2.33, musl
        return None
    function.restype = _MallInfo2
    return function if function().uordblks else None  # another allocator is preloaded


def used_bytes() -> int:
    """Bytes that malloc has given out and not got back; resident bytes where it cannot tell.

    Resident memory does not show what goes into pages that were freed before.
    """
    if (mallinfo2 := _mallinfo2()) is not None:
        info = mallinfo2()
        return int(info.uordblks + info.hblkhd)
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
