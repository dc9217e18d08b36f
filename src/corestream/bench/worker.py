"""The process of one contender: `python -m corestream.bench.worker [CPUs]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any


def run_worker(arguments: Sequence[str]) -> None:
    """Pins itself if asked to, and then answers its parent's requests.

    Args:
        arguments: The CPUs that the process shall be pinned to as a whole, as "0-3,8", or nothing.
    """
    if arguments:
        from corestream.cpu.cpu_set import CPUSet

        # Before torch is loaded: libgomp counts the CPUs once.
        os.sched_setaffinity(0, set(CPUSet.parse(arguments[0])))
    from corestream.bench.contestant import Contestant
    from corestream.measure.named import importable_from_here
    from corestream.measure.process import serve

    contestant = Contestant()
    handlers: dict[str, Any] = {"prepare": contestant.prepare, "load": contestant.load}
    with importable_from_here():
        serve(handlers)


if __name__ == "__main__":
    run_worker(sys.argv[1:])
