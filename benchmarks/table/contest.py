"""One row: all entrants of one model alive, one of them running, A B C A B C."""

from __future__ import annotations

import fcntl
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import CPUTime
from benchmarks.models import DTYPES
from benchmarks.table.entrants import Entrant
from benchmarks.table.job import LOADING, Job, quiet, read_arrays
from benchmarks.table.process import EntrantError, EntrantProcess
from corestream.measure.numerics import compare

Show = Callable[[str], None]

# A turn in which more of the CPUs than this went to others is taken again, so often at most.
MOST_LOST = 0.08
TRIES = 3


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure a row.

    Attributes:
        rounds: Turns of each entrant at most.
        least_rounds: Turns of each, however long they take.
        seconds: Length of a turn; a long call takes longer.
        budget_s: No further round starts after so many seconds.
        load_timeout_s: How long an entrant may take to load (and to compile) its model.
        turn_timeout_s: How long a turn may take.
        around: A command that is run with "begin" before each round and with "end" after it.
    """

    rounds: int = 12
    least_rounds: int = 5
    seconds: float = 0.5
    budget_s: float = 75.0
    load_timeout_s: float = 900.0
    turn_timeout_s: float = 180.0
    around: Sequence[str] = ()


QUICK = Effort(rounds=2, least_rounds=2, seconds=0.05, budget_s=20.0)


def measure(
    entrants: Mapping[str, Entrant], job: Job, *, effort: Effort, logs: Path, show: Show
) -> dict[str, dict[str, Any]]:
    """What each entrant did.

    Args:
        entrants: Who takes part, in the order of their turns.
        job: What they do.
        effort: How long.
        logs: Folder for what they print.
        show: Is told what goes on.

    Returns:
        For each entrant its "label" and "status": "ok", "wrong" (the outputs differ from stock's)
        or "failed"; a "reason" if not ok; if it ran, "seconds", the median call of each round,
        "lost", the share of the CPUs that others had meanwhile, "error", the difference of the
        outputs, "load_s" and "notes".
    """
    found: dict[str, dict[str, Any]] = {
        name: {"label": entrant.label} for name, entrant in entrants.items()
    }
    with ExitStack() as stack:
        # A process dies with the thread that started it, so this one stays until all are closed.
        beside = stack.enter_context(ThreadPoolExecutor(1))

        def load(name: str) -> EntrantProcess | None:
            show(f"loading {entrants[name].label}")
            log = logs / f"{name}.log"
            process = _start(entrants[name], job, found[name], effort=effort, log=log)
            return stack.enter_context(process) if process is not None else None

        loaded = _load_all(entrants, load, job=job, beside=beside)
        running = {name: process for name, process in loaded.items() if process is not None}
        _take_turns(running, found, effort=effort, show=show)
    return found


def _load_all(
    entrants: Mapping[str, Entrant],
    load: Callable[[str], EntrantProcess | None],
    *,
    job: Job,
    beside: ThreadPoolExecutor,
) -> dict[str, EntrantProcess | None]:
    """Loads two at a time; one that measures while it loads waits for the others before that.

    Most of a row's time goes into compilers, which seldom use two cores. What corestream times
    of single kernels before (attention, linear layers) goes by the fastest of many calls.
    """
    processes: dict[str, EntrantProcess | None] = dict.fromkeys(entrants)
    with _others_are_loading(job):
        patient = {
            name: beside.submit(load, name)
            for name, entrant in entrants.items()
            if entrant.measures_itself
        }
        for name in entrants:
            if name not in patient:
                processes[name] = load(name)
    return processes | {name: future.result() for name, future in patient.items()}


@contextmanager
def _others_are_loading(job: Job) -> Iterator[None]:
    """Holds the file that `wait_for_others` waits for."""
    with job.path(LOADING).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(
    entrant: Entrant, job: Job, result: dict[str, Any], *, effort: Effort, log: Path
) -> EntrantProcess | None:
    absent = entrant.why_absent()
    if absent:
        result.update(status="failed", reason=absent)
        return None
    try:
        process = EntrantProcess(entrant, job, log=log, timeout_s=effort.load_timeout_s)
    except EntrantError as error:
        result.update(status="failed", reason=str(error))
        return None
    result.update(load_s=process.load_s, notes=process.notes, seconds=[], lost=[])
    result.update(_judge(process, job))
    return process


def _judge(process: EntrantProcess, job: Job) -> dict[str, Any]:
    """Whether the outputs are what stock torch computes in fp32."""
    outputs = [torch.from_numpy(array) for array in process.outputs()]
    if not outputs:  # of the one that measures the machine
        return {"status": "ok"}
    expected = read_arrays(job.path(f"expected-{job.batch}.npz"))
    difference = compare(
        outputs,
        [torch.from_numpy(array) for array in expected],
        dtype=DTYPES[job.dtype],
        tolerance=job.facts()["tolerances"][str(job.batch)][job.dtype],
    )
    if difference.is_within:
        return {"status": "ok", "error": difference.error}
    return {"status": "wrong", "error": difference.error, "reason": difference.reason}


def _take_turns(
    running: dict[str, EntrantProcess],
    found: dict[str, dict[str, Any]],
    *,
    effort: Effort,
    show: Show,
) -> None:
    end = time.monotonic() + effort.budget_s
    for index in range(effort.rounds):
        if index >= effort.least_rounds and time.monotonic() > end:
            return
        show(f"round {index + 1}")
        with quiet(effort.around):
            _take_round(running, found, effort=effort)


def _take_round(
    running: dict[str, EntrantProcess], found: dict[str, dict[str, Any]], *, effort: Effort
) -> None:
    for name, process in list(running.items()):
        try:
            seconds, lost = _take_turn(process, effort)
        except EntrantError as error:
            found[name].update(status="failed", reason=str(error))
            process.close()
            del running[name]
        else:
            found[name]["seconds"].append(seconds)
            found[name]["lost"].append(lost)


def _take_turn(process: EntrantProcess, effort: Effort) -> tuple[float, float]:
    """The median call of the turn that others disturbed least, and what they took of it."""
    turns = []
    for _ in range(TRIES):
        clock, own = CPUTime.read(), process.cpu_ticks()
        samples = process.measure(effort.seconds, timeout_s=effort.turn_timeout_s)
        lost = CPUTime.read().lost_since(clock, own_ticks=process.cpu_ticks() - own)
        turns.append((lost, statistics.median(samples)))
        if lost <= MOST_LOST:
            break
    lost, seconds = min(turns)
    return seconds, lost
