"""``python -m benchmarks [NAME ...] [--quick]``: measures, prints tables, writes JSON.

``python -m benchmarks table [OPTION ...]``: the table of all models and entrants alone, with
options of its own (``table --help``).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from benchmarks.measure import FULL, QUICK, Effort
from corestream.cpu.pool import CPUPool

# In order of how long they take; the table, which takes hours, after them.
NAMES = (
    "overheads",
    "idle_team",
    "memory",
    "users",
    "throughput",
    "latency",
    "allocator",
    "attention",
    "products",
    "captures",
    "interop",
    "tuning",
)
TABLE = "table"


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = ", ".join((*NAMES, TABLE))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {known}; all")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only see that everything runs; the figures mean little",
    )
    parser.add_argument("--cores", type=int, default=2, help="how many to use; targets are for 2")
    parsed = parser.parse_args(arguments)
    unknown = [name for name in parsed.names if name not in (*NAMES, TABLE)]
    if unknown:
        parser.error(f"NAME must be one of {known}; got {', '.join(unknown)}")
    return parsed


def _keep_to(num_cores: int, arguments: list[str]) -> None:
    """Starts this program anew on `num_cores` cores, before torch counts the CPUs."""
    core_ids = CPUPool().core_ids
    if len(core_ids) > num_cores:
        os.sched_setaffinity(0, core_ids[:num_cores])
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks", *arguments])


def _run(name: str, effort: Effort) -> None:
    from benchmarks import machine
    from benchmarks.report import print_report, save_report

    description = machine.describe()
    before = machine.CPUTime.read()
    report = importlib.import_module(f"benchmarks.{name}").run(effort)
    stolen = machine.CPUTime.read().stolen_since(before)
    print_report(report)
    facts = {"time": machine.now(), "stolen": stolen, **description}
    path = save_report(report, machine=facts, is_quick=effort.is_quick)
    print(f"{machine.summary(description)}, stolen {stolen:.1%}; written to {path}\n", flush=True)


def _run_table(arguments: list[str]) -> None:
    from benchmarks.table.cli import main as table

    table(arguments)


def main(arguments: list[str]) -> None:
    if arguments[:1] == [TABLE]:
        _run_table(arguments[1:])
        return
    parsed = _parse(arguments)
    _keep_to(parsed.cores, arguments)
    effort = QUICK if parsed.quick else FULL
    names = parsed.names or (*NAMES, TABLE)
    for name in names:
        if name != TABLE:
            _run(name, effort)
    if TABLE in names:
        _run_table(["--quick"] if parsed.quick else ["--resume"])


if __name__ == "__main__":
    main(sys.argv[1:])
