"""``python -m corestream``: what this process would run on and with, as JSON.

``python -m corestream COMMAND`` is the same as ``corestream COMMAND``.
"""

from __future__ import annotations

import json
import sys


def _run() -> int:
    """Prints `runtime_info()`, or runs the command that the arguments name."""
    if len(sys.argv) > 1:
        from corestream.cli import main as run_command

        return run_command()
    from corestream.runtime.info import runtime_info

    print(json.dumps(runtime_info(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(_run())
