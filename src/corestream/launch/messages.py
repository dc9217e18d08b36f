"""What the launcher itself has to say, beside the output of its instances."""

from __future__ import annotations

import sys
from contextlib import suppress


def say(message: str) -> None:
    """Print a line of the launcher's own on standard error.

    Args:
        message: The line.
    """
    with suppress(OSError, ValueError):  # nobody reads it
        sys.stderr.write(f"corestream run: {message}\n")
        sys.stderr.flush()
