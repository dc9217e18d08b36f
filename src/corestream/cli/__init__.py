"""The `corestream` command: doctor, topo, tune, run, bench."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, as `corestream` and `python -m corestream` do.

    Args:
        arguments: The words after the program's name; those of the process by default.

    Returns:
        The exit status: 0 fine, 1 a problem was found, 2 wrong use, 130 interrupted; others are
        told by the command's own help.

    Example:
        >>> main(["--version"])
        corestream ...
        0

    Not thread-safe: a command may set what belongs to the whole process; holds the GIL.
    """
    from corestream.cli.app import run

    return run(arguments)
