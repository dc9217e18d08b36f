"""``python -m corestream``: what this process would run on and with, as JSON."""

from __future__ import annotations

import json

from corestream.runtime.info import runtime_info


def main() -> None:
    """Prints `runtime_info()`."""
    print(json.dumps(runtime_info(), indent=2))


if __name__ == "__main__":
    main()
