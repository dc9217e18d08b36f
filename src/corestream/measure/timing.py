"""How long calls take, side by side on one machine that is never quiet."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# A quick decision must not rest on one lucky round.
MIN_ROUNDS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds per call, one figure for each round.

    Attributes:
        samples_s: Seconds per call, in the order of the rounds. The n-th samples of calls that
            were timed together were taken right after one another.
    """

    samples_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """Half of the rounds were faster."""
        return statistics.median(self.samples_s)

    @property
    def p10_s(self) -> float:
        """A tenth of the rounds were faster."""
        return _quantile(self.samples_s, 0.1)

    @property
    def p90_s(self) -> float:
        """A tenth of the rounds were slower."""
        return _quantile(self.samples_s, 0.9)

    @property
    def rounds(self) -> int:
        """How many samples there are."""
        return len(self.samples_s)


def compare_times(
    calls: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 10,
    min_time_s: float = 0.01,
    budget_s: float = 2.0,
) -> dict[str, Timing]:
    """Times calls in turn, A B C A B C, so that all of them see the same machine.

    Each call is made twice before, which is not counted; the second run tells how many calls
    make a sample. A call that takes a tenth of the budget is made once before.

    Args:
        calls: What to time, by name.
        rounds: Samples of each at most.
        min_time_s: Seconds of a sample at least: short calls are repeated.
        budget_s: Seconds for everything; no further round is begun after them, but three rounds
            are always made.

    Returns:
        The samples of each call. Samples with the same index belong to the same round.

    Example:
        >>> timings = compare_times({"a": lambda: sum(range(9)), "b": list}, min_time_s=0.0001)
        >>> sorted(timings), timings["a"].rounds
        (['a', 'b'], 10)

    Runs the calls on the calling thread, and so must not share it; the calls may release the GIL.
    """
    end = time.perf_counter() + budget_s
    repeats = {}
    for name, call in calls.items():
        took = _time(call)
        if took < budget_s / 10:
            took = _time(call)
        repeats[name] = max(1, round(min_time_s / max(took, 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for done in range(rounds):
        if done >= MIN_ROUNDS and time.perf_counter() > end:
            break
        for name, call in calls.items():
            samples[name].append(_time(call, repeats=repeats[name]))
    return {name: Timing(tuple(taken)) for name, taken in samples.items()}


def _time(call: Callable[[], Any], *, repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def speedup(timing: Timing, baseline: Timing) -> float:
    """How many times as fast as `baseline` it is: the median of the rounds' quotients.

    A machine that slows down for some rounds slows both calls of a round, so the quotients stay
    when the medians of the two move.

    Args:
        timing: What is judged.
        baseline: What was timed in the same rounds.

    Returns:
        2.0 when it takes half the time.

    Example:
        >>> speedup(Timing((1.0, 2.0, 1.0)), Timing((2.0, 4.0, 2.0)))
        2.0

    Thread-safe; a pure function that holds the GIL.
    """
    return statistics.median(_quotients(timing, baseline))


def is_faster(timing: Timing, baseline: Timing, *, margin: float = 0.02) -> bool:
    """Whether it is faster beyond noise and by more than `margin`.

    Faster means that the median of the rounds' quotients exceeds 1 + margin, and that three
    quarters of the rounds were won at all. Two calls that do not differ are not faster either way.

    Args:
        timing: What may be faster.
        baseline: What was timed in the same rounds.
        margin: The share by which it has to win.

    Returns:
        Whether to prefer it.

    Example:
        >>> fast, slow = Timing((1.0, 1.0, 1.1)), Timing((1.5, 1.6, 1.5))
        >>> is_faster(fast, slow), is_faster(slow, fast), is_faster(fast, fast)
        (True, False, False)

    Thread-safe; a pure function that holds the GIL.
    """
    quotients = _quotients(timing, baseline)
    return statistics.median(quotients) > 1 + margin and _quantile(quotients, 0.25) > 1


def _quotients(timing: Timing, baseline: Timing) -> tuple[float, ...]:
    pairs = zip(timing.samples_s, baseline.samples_s, strict=False)
    return tuple(slow / max(fast, 1e-12) for fast, slow in pairs)


def _quantile(values: tuple[float, ...], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
