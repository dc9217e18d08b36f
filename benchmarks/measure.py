"""Times calls and compares what was measured in turn: medians and their spread, no means."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Attributes:
        processes: Fresh processes per subject; what differs between them (where memory lies,
            which core the kernel chose first) is part of the spread.
        rounds: Turns that each subject gets in a process: A B A B.
        seconds: Length of a turn.
        calls: Calls of a function that takes microseconds, per turn.
        is_quick: Whether this only checks that everything runs.
    """

    processes: int
    rounds: int
    seconds: float
    calls: int
    is_quick: bool


FULL = Effort(processes=3, rounds=5, seconds=1.0, calls=2000, is_quick=False)
QUICK = Effort(processes=1, rounds=2, seconds=0.05, calls=50, is_quick=True)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some figures, and between what most of them lie."""

    median: float
    p10: float
    p90: float
    count: int

    def scaled(self, factor: float) -> Spread:
        return Spread(self.median * factor, self.p10 * factor, self.p90 * factor, self.count)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def spread(values: Sequence[float]) -> Spread:
    return Spread(
        statistics.median(values), percentile(values, 10), percentile(values, 90), len(values)
    )


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The spread of the quotients of figures that were measured one right after the other."""
    return spread([top / bottom for top, bottom in zip(numerators, denominators, strict=True)])


def interleave(subjects: Mapping[str, Callable[[], T]], *, rounds: int) -> dict[str, list[T]]:
    """Calls each subject once per round, in turn, so that all see the same machine."""
    results: dict[str, list[T]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, subject in subjects.items():
            results[name].append(subject())
    return results


def time_in_turns(
    calls: Mapping[str, Callable[[], object]], *, effort: Effort
) -> dict[str, list[float]]:
    """Seconds of each call, in turns that are short: the median of each."""

    def turn(call: Callable[[], object]) -> Callable[[], float]:
        return lambda: statistics.median(time_for(call, seconds=effort.seconds / 10))

    turns = {name: turn(call) for name, call in calls.items()}
    return interleave(turns, rounds=effort.rounds * effort.processes)


def time_calls(function: Callable[[], object], *, calls: int) -> list[float]:
    """Seconds of each of `calls` calls, after a tenth as many that are not counted."""
    for _ in range(max(1, calls // 10)):
        function()
    clock = time.perf_counter
    samples = []
    for _ in range(calls):
        start = clock()
        function()
        samples.append(clock() - start)
    return samples


def time_for(function: Callable[[], object], *, seconds: float) -> list[float]:
    """Seconds of each call of as many as fit into `seconds`, at least three.

    Two calls before them are not counted: the other subject's turn has emptied the caches.
    """
    function()
    function()
    clock = time.perf_counter
    end = clock() + seconds
    samples: list[float] = []
    while len(samples) < 3 or clock() < end:
        start = clock()
        function()
        samples.append(clock() - start)
    return samples
