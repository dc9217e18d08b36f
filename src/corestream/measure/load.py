"""Load on something that answers requests: users who wait, and requests that do not wait for users.

A closed loop has a number of users, each of whom sends the next request when the last is answered:
what it measures is capacity. In an open loop requests arrive when they arrive, as from the many
users of a service: what it measures is what they wait at that rate. A request's latency there
counts from when it was due, so that a system that stalls cannot keep requests from being counted by
keeping them from being sent ("coordinated omission").
"""

from __future__ import annotations

import concurrent.futures
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
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
class _Tally:
    """What one user, or one open loop, has seen."""

    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0
    rejected: int = 0
    error: BaseException | None = None
    end_s: float = 0.0

    def count(self, error: BaseException) -> None:
        if isinstance(error, QueueFull):
            self.rejected += 1
            return
        self.failed += 1
        self.error = self.error or error


def closed_loop(
    submit: Submit,
    *,
    num_users: int,
    duration_s: float,
    warm_up: int = 1,
    timeout_s: float = TIMEOUT_S,
    clock: Clock | None = None,
) -> LoadResult:
    """Users who each send a request, wait for the answer, and send the next.

    Each user is a thread that makes at least one request; one that was begun in time is waited for
    and counts.

    Args:
        submit: Sends a request and returns its future; :func:`as_submit` makes one of a call.
        num_users: How many there are, at least 1.
        duration_s: Seconds after which no user begins another request.
        warm_up: Requests of each user before the start, which do not count.
        timeout_s: Seconds that a user waits for an answer before it counts as failed.
        clock: None: the machine's.

    Returns:
        The requests of all users.

    Raises:
        ValueError: An argument is out of range.
        Exception: What a request of the warm-up raised: then there is nothing to measure.

    Example:
        >>> result = closed_loop(as_submit(lambda: sum(range(99))), num_users=2, duration_s=0.01)
        >>> result.completed > 0 and result.failed == 0
        True

    Blocks the calling thread, without the GIL; any number of loops may run.
    """
    _check(num_users >= 1, f"num_users must be at least 1; got {num_users}; ask for a user")
    _check(
        duration_s > 0, f"duration_s must be above 0; got {duration_s}; give the loop some seconds"
    )
    loop = _ClosedLoop(
        submit,
        duration_s=duration_s,
        warm_up=warm_up,
        timeout_s=timeout_s,
        clock=clock or SystemClock(),
        start_line=threading.Barrier(num_users),
    )
    tallies = [_Tally() for _ in range(num_users)]
    users = [
        threading.Thread(target=loop.be_a_user, args=(tally,), daemon=True, name=f"user {number}")
        for number, tally in enumerate(tallies)
    ]
    try:
        for user in users:
            user.start()
        for user in users:
            user.join()
    except BaseException:
        loop.stop()
        raise
    if loop.warm_up_error is not None:
        raise loop.warm_up_error
    spans = [tally.end_s for tally in tallies]
    return LoadResult(
        completed=sum(len(tally.latencies_s) for tally in tallies),
        failed=sum(tally.failed for tally in tallies),
        rejected=sum(tally.rejected for tally in tallies),
        # Little's law: users over their mean time for a request. The time up to the last user's
        # end would count the others' idle end of the run.
        seconds=sum(spans) / num_users,
        latencies_s=tuple(latency for tally in tallies for latency in tally.latencies_s),
        error=next((tally.error for tally in tallies if tally.error is not None), None),
    )


class _ClosedLoop:
    def __init__(
        self,
        submit: Submit,
        *,
        duration_s: float,
        warm_up: int,
        timeout_s: float,
        clock: Clock,
        start_line: threading.Barrier,
    ) -> None:
        self._submit, self._clock = submit, clock
        self._duration_s, self._timeout_s = duration_s, timeout_s
        self._warm_up, self._start_line = warm_up, start_line
        self._is_stopped = threading.Event()
        self.warm_up_error: BaseException | None = None

    def stop(self) -> None:
        """No user begins another request."""
        self._is_stopped.set()
        self._start_line.abort()

    def be_a_user(self, tally: _Tally) -> None:
        try:
            for _ in range(self._warm_up):
                self._submit().result(self._timeout_s)
            self._start_line.wait()
        except threading.BrokenBarrierError:
            return
        except BaseException as error:  # noqa: BLE001 (closed_loop raises it on the caller's thread)
            self.warm_up_error = self.warm_up_error or error
            self.stop()
            return
        self._send_requests(tally)

    def _send_requests(self, tally: _Tally) -> None:
        start = begin = self._clock.now()
        while not self._is_stopped.is_set():
            try:
                self._submit().result(self._timeout_s)
            except BaseException as error:  # noqa: BLE001 (it is the request's outcome)
                tally.count(error)
                end = self._clock.now()
            else:
                end = self._clock.now()
                tally.latencies_s.append(end - begin)
            tally.end_s = end - start
            if tally.end_s >= self._duration_s:
                return
            begin = end


def arrival_times(rate_per_s: float, *, duration_s: float, seed: int) -> Iterator[float]:
    """When the requests of a Poisson process arrive, in seconds from its start.

    Args:
        rate_per_s: Requests per second on average.
        duration_s: None arrives later.
        seed: The same seed gives the same times; for twice the rate they come twice as fast.

    Yields:
        Ascending times.

    Example:
        >>> times = list(arrival_times(100, duration_s=1, seed=1))
        >>> times == sorted(times), 70 < len(times) < 130
        (True, True)

    Each call has a generator of its own; holds the GIL.
    """
    gaps = random.Random(seed)
    time_s = gaps.expovariate(rate_per_s)
    while time_s < duration_s:
        yield time_s
        time_s += gaps.expovariate(rate_per_s)


def open_loop(
    submit: Submit,
    *,
    rate_per_s: float,
    duration_s: float,
    seed: int = 0,
    max_in_flight: int = 1000,
    warm_up: int = 1,
    timeout_s: float = TIMEOUT_S,
    clock: Clock | None = None,
) -> LoadResult:
    """Requests that arrive at random, at a rate, whether or not the last ones are answered.

    Latencies count from when a request was due, not from when it could be sent.

    Args:
        submit: Sends a request and returns its future, without waiting for the answer.
        rate_per_s: Requests per second on average, above 0.
        duration_s: Seconds in which they arrive.
        seed: Decides the arrivals; two loops with the same seed have the same.
        max_in_flight: Requests without an answer yet; one that arrives when there are so many is
            rejected, as by a server whose queue is full.
        warm_up: Requests before the start, one after another, which do not count.
        timeout_s: Seconds to wait for the last answers; those that are missing then have failed.
        clock: None: the machine's.

    Returns:
        All requests that arrived.

    Raises:
        ValueError: An argument is out of range.
        Exception: What a request of the warm-up raised: then there is nothing to measure.

    Example:
        >>> with concurrent.futures.ThreadPoolExecutor(1) as executor:
        ...     submit = as_submit(lambda: sum(range(99)), executor=executor)
        ...     result = open_loop(submit, rate_per_s=1000, duration_s=0.02)
        >>> result.failed, result.rejected
        (0, 0)

    Blocks the calling thread, mostly without the GIL; any number of loops may run.
    """
    _check(rate_per_s > 0, f"rate_per_s must be above 0; got {rate_per_s}; ask for some requests")
    _check(
        duration_s > 0, f"duration_s must be above 0; got {duration_s}; give the loop some seconds"
    )
    _check(max_in_flight >= 1, f"max_in_flight must be at least 1; got {max_in_flight}; allow one")
    clock = clock or SystemClock()
    for _ in range(warm_up):
        submit().result(timeout_s)
    loop = _OpenLoop(clock, max_in_flight=max_in_flight)
    for due_s in arrival_times(rate_per_s, duration_s=duration_s, seed=seed):
        clock.wait_until(loop.start_s + due_s)
        loop.send(submit, due_s=due_s)
    return loop.finish(duration_s=duration_s, timeout_s=timeout_s)


class _OpenLoop:
    def __init__(self, clock: Clock, *, max_in_flight: int) -> None:
        self._clock, self._max_in_flight = clock, max_in_flight
        self._changed = threading.Condition()
        self._in_flight = 0
        self._is_over = False
        self._tally = _Tally()
        self.start_s = clock.now()

    def send(self, submit: Submit, *, due_s: float) -> None:
        with self._changed:
            if self._in_flight >= self._max_in_flight:
                self._tally.rejected += 1
                return
            self._in_flight += 1
        try:
            future = submit()
        except Exception as error:  # noqa: BLE001 (it is the request's outcome)
            self._settle(error, due_s=due_s)
            return
        future.add_done_callback(lambda future: self._settle(_error_of(future), due_s=due_s))

    def _settle(self, error: BaseException | None, *, due_s: float) -> None:
        now_s = self._clock.now() - self.start_s
        with self._changed:
            if self._is_over:
                return
            self._in_flight -= 1
            if error is not None:
                self._tally.count(error)
            else:
                self._tally.latencies_s.append(now_s - due_s)
                self._tally.end_s = max(self._tally.end_s, now_s)
            self._changed.notify()

    def finish(self, *, duration_s: float, timeout_s: float) -> LoadResult:
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight == 0, timeout_s)
            self._is_over = True
            tally = self._tally
            if self._in_flight:
                late = TimeoutError(
                    f"requests must be answered within {timeout_s:g} s of the last one; "
                    f"{self._in_flight} were not; raise timeout_s or lower the rate"
                )
                tally.failed += self._in_flight
                tally.error = tally.error or late
            return LoadResult(
                completed=len(tally.latencies_s),
                failed=tally.failed,
                rejected=tally.rejected,
                seconds=max(duration_s, tally.end_s),
                latencies_s=tuple(tally.latencies_s),
                error=tally.error,
            )


def _error_of(future: FutureLike) -> BaseException | None:
    try:
        future.result(0)
    except BaseException as error:  # noqa: BLE001 (it is the request's outcome)
        return error
    return None


def _check(is_right: bool, message: str) -> None:
    if not is_right:
        raise ValueError(message)
