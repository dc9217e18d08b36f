"""Claims cores of a pretended machine, says which, and does what it is told on standard input.

ledger_program.py FOLDER NUM_CPUS CORES     claim; print the CPUs, or why not; wait
"""

from __future__ import annotations

import os
import signal
import sys

from corestream.cpu import CPUSet
from corestream.cpu.override import override_allowed
from corestream.errors import CoresTaken
from corestream.launch import claim_cores


def hold_in_a_child() -> None:
    """Fork a child that keeps every descriptor of this process open."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    print(pid, flush=True)


def main() -> None:
    folder, num_cpus, cores = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sys.stdin.readline()  # all start to claim at once
    with override_allowed(CPUSet(range(num_cpus))):
        try:
            lease = claim_cores(cores, folder=folder)
        except CoresTaken as error:
            print(f"taken: {error}", flush=True)
            return
    print(*lease.core_ids, flush=True)
    for line in sys.stdin:
        match line.strip():
            case "fork":
                hold_in_a_child()
            case "keep":
                lease.keep_across_exec()
                print("kept", flush=True)
            case "exec":
                os.execv("/bin/sh", ["sh", "-c", "echo another program; read nothing"])
            case "release":
                lease.release()
                print("released", flush=True)


if __name__ == "__main__":
    main()
