"""What an entrant's factory returns, and how its calls are timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.table.job import Arrays

# A call as long as this does not notice what others have left in the caches.
LONG_CALL_S = 0.5


@dataclass(frozen=True, slots=True)
class Runner:
    """A loaded model.

    Attributes:
        run: Runs one batch and waits for what comes out.
        outputs: Runs one batch and returns its outputs as fp32 arrays.
        run_for: For entrants that keep several batches in flight: runs for about so many seconds
            and returns the seconds that batches took, on average. None times `run`.
        notes: What to tell about how the model was loaded.
    """

    run: Callable[[], object]
    outputs: Callable[[], Arrays]
    run_for: Callable[[float], list[float]] | None = None
    notes: dict[str, str] = field(default_factory=dict)


def time_runner(runner: Runner, *, seconds: float) -> list[float]:
    """Seconds of each call of as many as fit into `seconds`.

    Calls before them are not counted, unless they are long: the process was stopped, and others
    have used the caches.
    """
    if runner.run_for is not None:
        return runner.run_for(seconds)
    first = _timed(runner.run)
    if first >= LONG_CALL_S:
        samples = [first]
    else:
        runner.run()
        samples = [_timed(runner.run)]
    end = time.perf_counter() + seconds - sum(samples)
    while time.perf_counter() < end:
        samples.append(_timed(runner.run))
    return samples


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
