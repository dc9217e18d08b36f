"""``python -m corestream``: what this process would run on and with, as JSON.

``python -m corestream COMMAND`` is the same as ``corestream COMMAND``.
"""

from __future__ import annotations

import json
import os
import sys


def _run() -> int:
    """Prints `runtime_info()`, or runs the command that the arguments name."""
    if len(sys.argv) > 1:
        from corestream.cli import main as run_command

        return run_command()
    from corestream.runtime.info import runtime_info

    try:
        print(json.dumps(runtime_info(), indent=2), flush=True)
    except BrokenPipeError:
        # As in Python's documentation of SIGPIPE: else Python tries again as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_run())
