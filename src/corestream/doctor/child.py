"""The program of the fresh process: imports torch, looks, and prints what it saw line by line.

What may hang or be killed (an import that needs another CPU, a first parallel region) comes after
a line that says how far it got.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from corestream.cpu.cpu_set import CPUSet

MARK = "corestream-doctor:"
"""Starts our lines, as libraries may print on standard output too."""

WINDOW_S = 0.05
"""How long idle workers are watched; libgomp's default spin ends within it."""

_ELEMENTS = 1 << 20  # enough for at::parallel_for to use every thread of the team


def look() -> None:
    """Print one line of JSON for each stage: before, torch or absent, team, products."""
    # The thread that asks may be narrower than what its process was started with.
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, CPUSet.parse(sys.argv[1]))
    _report("before", mask=sorted(os.sched_getaffinity(0)))
    try:
        import torch
    except ImportError as error:
        _report("absent", reason=str(error) or "import torch raised ImportError")
        return
    from corestream.doctor.torch_facts import describe_torch

    _report(
        "torch",
        torch=describe_torch(torch),
        mask=sorted(os.sched_getaffinity(0)),
        maps=_maps(),
    )
    team = _run_a_region(torch)
    # Intel's and LLVM's runtimes narrow the main thread at their first region, not as they load.
    _report("team", team=team, mask=sorted(os.sched_getaffinity(0)))
    if "--products" in sys.argv[2:]:
        from corestream.doctor.products import measure_products

        _report("products", products=measure_products())


def _report(stage: str, **fields: Any) -> None:
    print(f"\n{MARK}", json.dumps({"stage": stage, **fields}), flush=True)  # noqa: T201 (to the parent)


def _maps() -> str:
    try:
        return Path("/proc/self/maps").read_text(errors="replace")
    except OSError:
        return ""


def _run_a_region(torch: Any) -> dict[str, Any]:
    before = _cpu_times()
    torch.zeros(_ELEMENTS).sigmoid_()
    start = _cpu_times()
    time.sleep(WINDOW_S)
    end = _cpu_times()
    workers = set(start) - set(before)
    spun = [end[i] - start[i] for i in workers & set(end)]
    can_tell = bool(before) and len(spun) == len(workers)
    return {
        "size": 1 + len(workers) if before else None,
        "spin_s": sum(spun) if can_tell else None,
        "window_s": WINDOW_S,
    }


def _cpu_times() -> dict[int, float]:
    """CPU seconds of every thread; empty where the kernel does not tell."""
    found = {}
    for folder in Path("/proc/self/task").glob("[0-9]*"):
        try:
            nanoseconds = (folder / "schedstat").read_text().split()[0]
        except (OSError, IndexError):
            continue
        found[int(folder.name)] = int(nanoseconds) / 1e9
    return found
