"""`python -m corestream.cpu`: print the topology and the CPU budget, or copy their sources."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from corestream.cpu.gather import gather
from corestream.cpu.report import describe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after the program's name; those of the process by default.

    Returns:
        The exit status: 0, or 1 if the copy failed.

    Example:
        >>> main(["--root", "/nonexistent"])  # doctest: +ELLIPSIS
        {
          "allowed_cpus": "0",
        ...

    Thread-safe; holds the GIL.
    """
    parser = argparse.ArgumentParser(
        prog="python -m corestream.cpu",
        description="Print the CPUs of this machine and the CPU budget of this process as JSON.",
    )
    parser.add_argument("--root", default="/", help="folder that stands for / (default: /)")
    commands = parser.add_subparsers(dest="command")
    command = commands.add_parser(
        "gather", help="copy the text that describes this machine's CPUs to a folder"
    )
    command.add_argument("directory", metavar="DIR", help="a new or empty folder")
    options = parser.parse_args(arguments)
    if options.command is None:
        print(json.dumps(describe(options.root), indent=2))
        return 0
    try:
        paths = gather(options.directory, options.root)
    except (OSError, ValueError) as error:
        print(f"gather: {error}", file=sys.stderr)
        return 1
    print(f"{len(paths)} files copied to {options.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
