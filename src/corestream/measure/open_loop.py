"""Open loops: requests arrive at random, at a rate, whether or not the last ones are answered."""

from __future__ import annotations

import concurrent.futures
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

from corestream.measure.requests import (
    TIMEOUT_S,
    Clock,
    FutureLike,
    LoadResult,
    Submit,
    SystemClock,
    Tally,
    check,
)


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
        >>> from corestream.measure.requests import as_submit
        >>> with concurrent.futures.ThreadPoolExecutor(1) as executor:
        ...     submit = as_submit(lambda: sum(range(99)), executor=executor)
        ...     result = open_loop(submit, rate_per_s=1000, duration_s=0.02)
        >>> result.failed, result.rejected
        (0, 0)

    Blocks the calling thread, mostly without the GIL; any number of loops may run.
    """
    check(rate_per_s > 0, f"rate_per_s must be above 0; got {rate_per_s}; ask for some requests")
    check(
        duration_s > 0, f"duration_s must be above 0; got {duration_s}; give the loop some seconds"
    )
    check(max_in_flight >= 1, f"max_in_flight must be at least 1; got {max_in_flight}; allow one")
    clock = clock or SystemClock()
    for _ in range(warm_up):
        submit().result(timeout_s)
    loop = _OpenLoop(clock, max_in_flight=max_in_flight)
    for due_s in arrival_times(rate_per_s, duration_s=duration_s, seed=seed):
        clock.wait_until(loop.start_s + due_s)
        loop.send(submit, due_s=due_s)
    return loop.finish(duration_s=duration_s, timeout_s=timeout_s)


def open_loop_of_threads(
    call: Callable[[], Any],
    *,
    num_threads: int,
    rate_per_s: float,
    duration_s: float,
    seed: int = 0,
    warm_up: int = 1,
    clock: Clock | None = None,
) -> LoadResult:
    """The same for calls that block, made by threads that take the requests in order of arrival.

    Each thread waits itself for the request that it takes. With a thread that sends and others
    that answer, the sender would fight them for the GIL, and a call that holds it would be measured
    at the interpreter's switch interval of 5 ms.

    Args:
        call: Answers one request.
        num_threads: How many requests can be answered at once.
        rate_per_s: Requests per second on average, above 0.
        duration_s: Seconds in which they arrive; all are answered, however long that takes.
        seed: Decides the arrivals, as in :func:`open_loop`.
        warm_up: Calls of each thread before the start, which do not count.
        clock: None: the machine's.

    Returns:
        All requests that arrived.

    Raises:
        ValueError: An argument is out of range.
        Exception: What a call of the warm-up raised: then there is nothing to measure.

    Example:
        >>> result = open_loop_of_threads(
        ...     lambda: sum(range(99)), num_threads=2, rate_per_s=1000, duration_s=0.02
        ... )
        >>> result.failed, result.rejected
        (0, 0)

    Blocks the calling thread, without the GIL; any number of loops may run.
    """
    check(num_threads >= 1, f"num_threads must be at least 1; got {num_threads}; ask for a thread")
    check(rate_per_s > 0, f"rate_per_s must be above 0; got {rate_per_s}; ask for some requests")
    check(
        duration_s > 0, f"duration_s must be above 0; got {duration_s}; give the loop some seconds"
    )
    clock = clock or SystemClock()
    threads = _AnsweringThreads(call, num_threads=num_threads, warm_up=warm_up, clock=clock)
    return threads.run(rate_per_s, duration_s=duration_s, seed=seed)


class _AnsweringThreads:
    def __init__(
        self, call: Callable[[], Any], *, num_threads: int, warm_up: int, clock: Clock
    ) -> None:
        self._call, self._warm_up, self._clock = call, warm_up, clock
        self._num_threads = num_threads
        self._arrivals: Iterator[float] = iter(())
        self._taking = threading.Lock()
        self._start_line = threading.Barrier(num_threads, action=self._start)
        self._start_s = 0.0
        self._is_stopped = threading.Event()

    def run(self, rate_per_s: float, *, duration_s: float, seed: int) -> LoadResult:
        self._arrivals = arrival_times(rate_per_s, duration_s=duration_s, seed=seed)
        with concurrent.futures.ThreadPoolExecutor(self._num_threads) as executor:
            futures = [executor.submit(self._answer) for _ in range(self._num_threads)]
            try:
                concurrent.futures.wait(futures)
            except BaseException:
                self._is_stopped.set()
                self._start_line.abort()
                raise
        broken = [future.exception() for future in futures]
        for error in broken:
            if error is not None and not isinstance(error, threading.BrokenBarrierError):
                raise error
        tallies = [future.result() for future in futures]
        return LoadResult(
            completed=sum(len(tally.latencies_s) for tally in tallies),
            failed=sum(tally.failed for tally in tallies),
            rejected=sum(tally.rejected for tally in tallies),
            seconds=max(duration_s, *(tally.end_s for tally in tallies)),
            latencies_s=tuple(latency for tally in tallies for latency in tally.latencies_s),
            error=next((tally.error for tally in tallies if tally.error is not None), None),
        )

    def _start(self) -> None:
        self._start_s = self._clock.now()

    def _answer(self) -> Tally:
        try:
            for _ in range(self._warm_up):
                self._call()
        except BaseException:
            self._start_line.abort()
            raise
        self._start_line.wait()
        tally = Tally()
        while not self._is_stopped.is_set():
            with self._taking:
                due_s = next(self._arrivals, None)
            if due_s is None:
                break
            self._clock.wait_until(self._start_s + due_s)
            try:
                self._call()
            except BaseException as error:  # noqa: BLE001 (it is the request's outcome)
                tally.count(error)
            else:
                tally.end_s = self._clock.now() - self._start_s
                tally.latencies_s.append(tally.end_s - due_s)
        return tally


class _OpenLoop:
    def __init__(self, clock: Clock, *, max_in_flight: int) -> None:
        self._clock, self._max_in_flight = clock, max_in_flight
        self._changed = threading.Condition()
        self._in_flight = 0
        self._is_over = False
        self._tally = Tally()
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
