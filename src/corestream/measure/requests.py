"""Requests and their outcomes: what all load generators share."""

from __future__ import annotations

import concurrent.futures
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from corestream.errors import QueueFull
from corestream.measure.percentiles import percentile

TIMEOUT_S = 60.0


class FutureLike(Protocol):
    """The handle to an answer: corestream's, `concurrent.futures`'s, or one of your own."""

    def result(self, timeout: float | None = None, /) -> Any:
        """The answer, waited for; raises what the request raised."""

    def add_done_callback(self, fn: Callable[[Any], object], /) -> Any:
        """Calls `fn` with the future when the answer is there, at once if it is."""


Submit = Callable[[], FutureLike]


class Clock(Protocol):
    """Where the time comes from; tests have one of their own."""

    def now(self) -> float:
        """Seconds since some moment."""

    def wait_until(self, time_s: float) -> None:
        """Returns when `now()` has come to `time_s`."""


class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    def wait_until(self, time_s: float) -> None:
        """Sleeps: what waits must not take a CPU from what is measured."""
        while (left := time_s - time.perf_counter()) > 0:
            time.sleep(left)


@dataclass(frozen=True)
class LoadResult:
    """What came of some load.

    Attributes:
        completed: Requests that were answered.
        failed: Requests that raised, or were not answered in time.
        rejected: Requests that were refused: `QueueFull`, or over the limit of an open loop.
        seconds: How long it took. In a closed loop the mean over the users, each from the start to
            the end of his last request; in an open loop from the start to the last answer, or the
            asked duration if that is more.
        latencies_s: One for each completed request, in the order of the answers.
        error: The first exception of those that failed.

    Example:
        >>> result = LoadResult(3, 0, 0, seconds=0.5, latencies_s=(0.1, 0.3, 0.1))
        >>> result.rate_per_s, result.percentile_ms(50)
        (6.0, 100.0)

    A value: threads may share it.
    """

    completed: int
    failed: int
    rejected: int
    seconds: float
    latencies_s: tuple[float, ...]
    error: BaseException | None = None

    @property
    def rate_per_s(self) -> float:
        """Completed requests per second."""
        return self.completed / self.seconds if self.seconds > 0 else 0.0

    def percentile_ms(self, percent: float) -> float:
        """The latency that `percent` of a hundred completed requests did not exceed.

        Infinite if none completed.
        """
        return 1e3 * percentile(self.latencies_s, percent) if self.latencies_s else math.inf


def as_submit(
    call: Callable[[], Any], *, executor: concurrent.futures.Executor | None = None
) -> Submit:
    """What the load generators take, from a plain call that blocks.

    Args:
        call: Answers one request.
        executor: Whose threads make the call; None: the thread of the user. An open loop needs one,
            for its requests do not wait for one another.

    Returns:
        A function that returns a future.

    Example:
        >>> as_submit(lambda: 7)().result()
        7

    Thread-safe if `call` is.
    """
    if executor is not None:
        return lambda: executor.submit(call)

    def submit() -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 (it is the request's outcome)
            future.set_exception(error)
        return future

    return submit


@dataclass
class Tally:
    """What one user, or one open loop, has seen."""

    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0
    rejected: int = 0
    error: BaseException | None = None
    end_s: float = 0.0

    def count(self, error: BaseException) -> None:
        """Counts a request that was not answered."""
        if isinstance(error, QueueFull):
            self.rejected += 1
            return
        self.failed += 1
        self.error = self.error or error


def check(is_right: bool, message: str) -> None:
    """Raises ValueError with `message` unless `is_right`."""
    if not is_right:
        raise ValueError(message)
