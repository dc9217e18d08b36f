"""Whole lines with a prefix, so that those of several instances do not run into each other."""

from __future__ import annotations

import re
from collections.abc import Callable

# Progress bars end their lines with a carriage return.
_LINE_END = re.compile(rb"\r\n|\n|\r")

_LONGEST = 64 * 1024


class Lines:
    """Passes bytes on, each line with a prefix; without one, unchanged and at once.

    Args:
        write: Takes what is to be passed on.
        prefix: What each line begins with.

    Not thread-safe; the GIL is held, except inside `write`.
    """

    def __init__(self, write: Callable[[bytes], None], *, prefix: bytes) -> None:
        self._write = write
        self._prefix = prefix
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Pass on the lines that are complete.

        Args:
            data: What comes next.
        """
        if not self._prefix:
            self._write(data)
            return
        text = self._rest + data
        # A final "\r" may be half of "\r\n".
        end = len(text) - 1 if text.endswith(b"\r") else len(text)
        whole: list[bytes] = []
        position = 0
        for match in _LINE_END.finditer(text, 0, end):
            whole += (self._prefix, text[position : match.end()])
            position = match.end()
        self._rest = text[position:]
        if len(self._rest) > _LONGEST:
            whole += (self._prefix, self._rest, b"\n")
            self._rest = b""
        if whole:
            self._write(b"".join(whole))

    def end(self) -> None:
        """Pass on the line that was left without an end."""
        if self._rest:
            end = b"" if self._rest.endswith(b"\r") else b"\n"
            self._write(self._prefix + self._rest + end)
            self._rest = b""
