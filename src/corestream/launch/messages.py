"""What the launcher itself has to say, beside the output of its instances."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def say(message: str) -> None:
    """Print a line of the launcher's own on standard error.

    Args:
        message: The line.
    """
    # Not through sys.stderr: what it could not write it would try again at the end, and have the
    # process exit with 120.
    with suppress(OSError):  # nobody reads it
        os.write(2, f"corestream run: {message}\n".encode(errors="backslashreplace"))


def flush() -> None:
    """Write out what Python keeps back of standard output and error."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # the descriptor was closed as Python started
            stream.flush()
