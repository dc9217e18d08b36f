"""Runtime against the number of intra-op threads, as PyTorch's notes on tuning have it."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corestream.cpu.budget import cpu_budget
from corestream.measure.process import TurnProcess
from corestream.measure.timing import MIN_ROUNDS, Timing
from corestream.runtime.executor import check_count

OPERATIONS = ("matmul", "add", "sigmoid", "softmax")

# The caller may be pinned, and OpenMP's runtime counts the CPUs when it is loaded.
_PROGRAM = """
import contextlib, os
with contextlib.suppress(OSError):  # a sandbox may refuse it
    os.sched_setaffinity(0, {cpus})
from corestream.tuning.thread_worker import answer_parent
answer_parent()
"""

_MOST_POINTS = 24
_MOST_ROUNDS = 7
_PREPARE_TIMEOUT_S = 600.0
_TURN_TIMEOUT_S = 600.0
# A count is as good as the best if it is no further from it than this.
_ENOUGH = 1.05


@dataclass(frozen=True)
class ThreadPoint:
    """What a number of threads came to.

    Attributes:
        num_threads: Intra-op threads.
        samples_ms: Milliseconds of a call, one for each round: the median of the round's calls.

    Thread-safe: a value that never changes.
    """

    num_threads: int
    samples_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.samples_ms)

    @property
    def p10_ms(self) -> float:
        """A tenth of the rounds were faster."""
        return Timing(self.samples_ms).p10_s

    @property
    def p90_ms(self) -> float:
        """A tenth of the rounds were slower."""
        return Timing(self.samples_ms).p90_s


@dataclass(frozen=True)
class ThreadSweep:
    """Runtime against the number of intra-op threads; ``print(sweep)`` shows it as a table.

    Attributes:
        subject: What ran, in words.
        num_cpus: CPUs that the process may keep busy; more threads are oversubscription.
        default_threads: Threads that torch takes of itself.
        points: By number of threads, ascending.

    Thread-safe: a value that never changes.
    """

    subject: str
    num_cpus: int
    default_threads: int
    points: tuple[ThreadPoint, ...]

    @property
    def best(self) -> ThreadPoint:
        """The fastest.

        Thread-safe; never changes.
        """
        return min(self.points, key=lambda point: point.median_ms)

    @property
    def enough(self) -> ThreadPoint:
        """The fewest threads that take at most 5 % longer than the fastest.

        Thread-safe; never changes.
        """
        limit = self.best.median_ms * _ENOUGH
        return next(point for point in self.points if point.median_ms <= limit)

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draws runtime against threads, with the best and the region of oversubscription.

        Args:
            path: Where to; the ending, .png or .svg, says what.

        Returns:
            The file.

        Raises:
            ModuleNotFoundError: matplotlib is missing: install corestream[plot].
            ValueError: The ending is another.
            OSError: It cannot be written.

        Thread-safe; draws with the GIL held.
        """
        from corestream.tuning.plot import plot_threads

        return plot_threads(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """As values for JSON.

        Returns:
            Nested dicts and lists.

        Thread-safe; a pure function that holds the GIL.
        """
        points = [{**asdict(point), "median_ms": point.median_ms} for point in self.points]
        return {
            **asdict(self),
            "points": points,
            "best": self.best.num_threads,
            "enough": self.enough.num_threads,
        }

    def __str__(self) -> str:
        lines = [self.subject, "threads       ms  p10-p90"]
        slowest = max(point.median_ms for point in self.points)
        for point in self.points:
            bar = "#" * max(1, round(30 * point.median_ms / slowest))
            spread = f"{point.p10_ms:.4g}-{point.p90_ms:.4g}"
            figures = f"{point.num_threads:7}  {point.median_ms:7.4g}  {spread:17}"
            lines.append(f"{figures} {bar}{self._mark(point)}")
        return "\n".join([*lines, *self._conclusions()])

    def _mark(self, point: ThreadPoint) -> str:
        marks = []
        if point is self.best:
            marks.append("best")
        if point.num_threads > self.num_cpus:
            marks.append("oversubscribed")
        return f"  <- {', '.join(marks)}" if marks else ""

    def _conclusions(self) -> list[str]:
        best, enough = self.best, self.enough
        lines = [f"best: {best.num_threads} threads, {best.median_ms:.4g} ms"]
        if enough.num_threads < best.num_threads:
            lines.append(f"{enough.num_threads} threads are within 5 % of that")
        over = [point for point in self.points if point.num_threads > self.num_cpus]
        full = [point for point in self.points if point.num_threads == self.num_cpus]
        if over and full:
            ratio = over[0].median_ms / full[0].median_ms
            lines.append(
                f"oversubscription begins beyond {self.num_cpus}: {over[0].num_threads} threads "
                f"take {ratio:.2f} times as long as {self.num_cpus}"
            )
        return lines


def thread_counts(num_cpus: int, *, at_most: int | None = None) -> list[int]:
    """From 1 to twice the CPUs, or to `at_most`: all of them, or so many that a figure shows.

    >>> thread_counts(3)
    [1, 2, 3, 4, 5, 6]
    >>> thread_counts(24)[:4], thread_counts(24)[-1]
    ([1, 2, 4, 6], 48)
    """
    last = 2 * num_cpus if at_most is None else at_most
    step = -(-last // _MOST_POINTS)
    counts = {1, last, *range(step, last + 1, step)}
    if num_cpus < last:
        counts |= {num_cpus, min(last, num_cpus + step)}
    return sorted(counts)


def sweep_threads(
    model: str | None = None,
    inputs: Sequence[str] = (),
    *,
    op: str = "matmul",
    size: int = 1024,
    max_threads: int | None = None,
    budget_s: float = 30.0,
    progress: Callable[[str, float], object] = lambda text, share: None,
) -> ThreadSweep:
    """Times an operation, or a model, with 1 to twice as many intra-op threads as there are CPUs.

    All of it happens in a process of its own, so that this one's thread count stays what it is;
    nothing is pinned. Counts take turns, so that a disturbance meets all of them.

    Args:
        model: What to run, as ``corestream bench`` names models; None: one operation.
        inputs: The model's inputs, as ``corestream bench`` writes them.
        op: "matmul", "add", "sigmoid" or "softmax" of square matrices.
        size: Their rows.
        max_threads: The largest number; None: twice the CPUs.
        budget_s: Seconds, beside loading torch and the model; three rounds are always made.
        progress: Called with what is being done and the share of the time that is gone.

    Returns:
        The runtimes.

    Raises:
        ValueError: An argument is out of range.
        MisuseError: There is no such model, or the inputs do not fit.
        ChildError: The process died.

    Example:
        >>> sweep = sweep_threads(op="add", size=64, max_threads=2, budget_s=0.2)
        >>> [point.num_threads for point in sweep.points]
        [1, 2]

    Thread-safe; waits without the GIL.
    """
    if op not in OPERATIONS:
        raise ValueError(f"op must be one of {OPERATIONS}; got {op!r}; choose one")
    check_count(size, name="size")
    if max_threads is not None:
        check_count(max_threads, name="max_threads")
    if not budget_s > 0:
        raise ValueError(f"budget_s must be above 0; got {budget_s!r}; give it some seconds")
    budget = cpu_budget()
    counts = thread_counts(budget.count, at_most=max_threads)
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-c", _PROGRAM.format(cpus=list(budget.allowed))]
        with TurnProcess(argv, name="the sweep's process", log=Path(folder) / "log") as process:
            progress("loading", 0.0)
            facts = process.ask(
                "prepare",
                timeout_s=_PREPARE_TIMEOUT_S,
                model=model,
                inputs=list(inputs),
                op=op,
                size=size,
            )
            samples = _rounds(process, counts, budget_s=budget_s, progress=progress)
    return ThreadSweep(
        subject=facts["subject"],
        num_cpus=budget.count,
        default_threads=facts["default_threads"],
        points=tuple(ThreadPoint(count, tuple(taken)) for count, taken in samples.items()),
    )


def _rounds(
    process: TurnProcess,
    counts: Sequence[int],
    *,
    budget_s: float,
    progress: Callable[[str, float], object],
) -> dict[int, list[float]]:
    start = time.monotonic()
    seconds = budget_s / (len(counts) * _MOST_ROUNDS)
    samples: dict[int, list[float]] = {count: [] for count in counts}
    for number in range(_MOST_ROUNDS):
        if number >= MIN_ROUNDS and time.monotonic() - start > budget_s:
            break
        for count in counts:
            share = (time.monotonic() - start) / budget_s
            progress(f"round {number + 1}, {count} threads", min(1.0, share))
            samples[count].append(
                process.ask("time", timeout_s=_TURN_TIMEOUT_S, num_threads=count, seconds=seconds)
            )
    return samples
