"""The physical floor of a hand-over: two pinned threads that wake each other by futex.

It is C++ without Python or torch, compiled when it is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Spread, spread

SOURCE = Path(__file__).with_name("futex_floor.cpp")


def futex_round_trips(pairs: Sequence[tuple[int, int]], *, calls: int) -> list[Spread]:
    """Seconds of a wake-up there and back, between each pair of CPUs; empty without a compiler."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "futex_floor"
        command = [compiler, "-std=c++20", "-O2", "-pthread", str(SOURCE), "-o", str(program)]
        subprocess.run(command, check=True)
        return [_run(program, *pair, calls) for pair in pairs]


def _run(program: Path, first_cpu: int, second_cpu: int, calls: int) -> Spread:
    arguments = [str(number) for number in (first_cpu, second_cpu, calls)]
    done = subprocess.run([program, *arguments], check=True, capture_output=True, text=True)
    samples = [int(line) * 1e-9 for line in done.stdout.split()]
    return spread(samples[calls // 10 :])
