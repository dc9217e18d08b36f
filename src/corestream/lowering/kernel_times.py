"""Which kernel is fastest, found while a model is lowered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from corestream.cpu.pool import CPUPool
from corestream.measure.timing import compare_times
from corestream.runtime.pin import pin

_BUDGET_S = 1.0


@contextmanager
def on_team(team_size: int) -> Iterator[None]:
    """A scope in which the calling thread has a team of that size, as a stream has."""
    with pin(CPUPool(CPUPool().core_ids[:team_size])):
        yield


def is_ours_faster(
    ours: Callable[[], Any],
    others: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    margin: float,
    allowance_s: float = 0.0,
) -> bool:
    """Times the calls in turn on the calling thread.

    Args:
        ours: Our kernel.
        others: Those that it has to beat.
        rounds: Calls of each at most.
        margin: The share of the best of the others that ours may take.
        allowance_s: And what it may take besides.
    """
    best = best_times({"ours": ours, **others}, rounds=rounds)
    return best.pop("ours") - allowance_s < margin * min(best.values())


def best_times(calls: Mapping[str, Callable[[], Any]], *, rounds: int) -> dict[str, float]:
    """Seconds of the shortest call of each, timed in turn on the calling thread.

    Not medians: a machine that compiles beside this leaves few calls alone.

    Args:
        calls: What to time, by name.
        rounds: Calls of each at most.
    """
    timings = compare_times(calls, rounds=rounds, min_time_s=0.0, budget_s=_BUDGET_S)
    return {name: min(timing.samples_s) for name, timing in timings.items()}
