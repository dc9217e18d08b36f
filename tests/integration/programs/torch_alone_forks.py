"""The control of test_fork.py: torch alone, a main thread that has used it in parallel, a fork.

The child's only thread goes to sleep inside libgomp, at a barrier for threads that exist in the
parent only: nothing can wake it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import support

FUTEX = {"x86_64": "202", "aarch64": "98"}[os.uname().machine]


def system_call(process: int) -> list[str]:
    return Path(f"/proc/{process}/syscall").read_text().split()


def mapped_at(process: int, address: int) -> str:
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        first, last = (int(bound, 16) for bound in line.split()[0].split("-"))
        if first <= address < last:
            return line.split()[-1]
    return ""


def main() -> None:
    support.use_torch_in_parallel()
    child = os.fork()
    if child == 0:
        support.use_torch_in_parallel()
        os._exit(0)
    where = ""

    def is_over() -> bool:
        nonlocal where
        if os.waitpid(child, os.WNOHANG)[0] == child:
            return True
        fields = system_call(child)  # "running" alone for a thread that runs
        where = mapped_at(child, int(fields[-1], 16)) if fields[0] == FUTEX else ""
        return "libgomp" in where

    support.wait_until(is_over)
    if where:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    support.report({"where": where, "has_corestream": "corestream" in sys.modules})


if __name__ == "__main__":
    main()
