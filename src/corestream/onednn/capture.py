"""Takes oneDNN's lines out of the process's standard output.

oneDNN prints with C's printf and has no other way out, so file descriptor 1 is exchanged for a
file in memory while someone listens. Everything else that was printed meanwhile is passed on
when the last listener leaves.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from corestream.onednn.log import VERBOSE_OFF, VERBOSE_ON, creations_logged, requested_level

PREFIX = b"onednn_verbose,"

_STDOUT = 1
_lock = threading.Lock()
_current: _Capture | None = None


def _flush() -> None:
    for stream in {sys.stdout, sys.__stdout__}:
        if stream is not None and not stream.closed:
            stream.flush()
    libc = ctypes.CDLL(None)
    libc.fflush(ctypes.c_void_p.in_dll(libc, "stdout"))


class _Capture:
    """Standard output, kept in memory from the first listener to the last."""

    def __init__(self) -> None:
        self.listeners = 0
        self._process = os.getpid()
        self._level = requested_level()
        _flush()
        self._saved = os.dup(_STDOUT)
        try:
            self._file = os.memfd_create("corestream-onednn")
        except BaseException:
            os.close(self._saved)
            raise
        os.dup2(self._file, _STDOUT)

    def size(self) -> int:
        _flush()
        self._level = max(self._level, requested_level())
        return os.fstat(self._file).st_size

    def text(self, *, start: int, end: int) -> bytes:
        return os.pread(self._file, end - start, start)

    def close(self) -> None:
        end = self.size()
        os.dup2(self._saved, _STDOUT)
        content = self.text(start=0, end=end)
        os.close(self._file)
        os.close(self._saved)
        if os.getpid() != self._process:
            return  # the file is shared with the parent, which passes on what both printed
        kept = b"".join(line for line in content.splitlines(keepends=True) if self._is_wanted(line))
        while kept:
            kept = kept[os.write(_STDOUT, kept) :]

    def _is_wanted(self, line: bytes) -> bool:
        if not line.startswith(PREFIX) or self._level > VERBOSE_ON:
            return True
        return self._level > VERBOSE_OFF and b",exec," in line


class Lines:
    """oneDNN's lines of a scope; empty until the scope is left."""

    def __init__(self) -> None:
        self.lines: list[str] = []


@contextmanager
def onednn_lines() -> Iterator[Lines]:
    """What oneDNN logs inside, creations included, from every thread of the process."""
    global _current
    found = Lines()
    with _lock:
        capture = _current = _current or _Capture()
        capture.listeners += 1
        start = capture.size()
    try:
        with creations_logged():
            yield found
    finally:
        with _lock:
            text = capture.text(start=start, end=capture.size())
            capture.listeners -= 1
            if capture.listeners == 0:
                _current = None
                capture.close()
        lines = text.decode(errors="replace").splitlines()
        found.lines = [line for line in lines if line.startswith(PREFIX.decode())]
