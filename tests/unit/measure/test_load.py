"""The load generators, by clocks and futures that the tests hold: nothing here is timed."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from corestream.errors import QueueFull
from corestream.measure.load import (
    LoadResult,
    arrival_times,
    as_submit,
    closed_loop,
    open_loop,
    open_loop_of_threads,
)


class FakeClock:
    """Stands still until it is told; remembers until when somebody waited."""

    def __init__(self, *, late_by: float = 0.0) -> None:
        self.time = 100.0
        self.waits: list[float] = []
        self._late_by = late_by

    def now(self) -> float:
        return self.time

    def wait_until(self, time_s: float) -> None:
        self.waits.append(time_s)
        self.time = max(self.time, time_s + self._late_by)


class Server:
    """Takes some time for each request, by the fake clock; may refuse or break."""

    def __init__(self, clock: FakeClock, outcomes) -> None:
        self._clock, self._outcomes = clock, iter(outcomes)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        outcome = next(self._outcomes)
        if isinstance(outcome, BaseException):
            self._clock.time += 1.0
            raise outcome
        self._clock.time += outcome
        return outcome


def answered(value=None) -> Future:
    future: Future = Future()
    future.set_result(value)
    return future


def test_a_user_sends_the_next_request_when_the_last_is_answered():
    clock = FakeClock()
    server = Server(clock, [50.0, 1.0, 2.0, 3.0, 4.0, 5.0])  # the first is the warm-up's
    result = closed_loop(as_submit(server), num_users=1, duration_s=10.0, clock=clock)
    assert result == LoadResult(4, 0, 0, seconds=10.0, latencies_s=(1.0, 2.0, 3.0, 4.0))
    assert server.calls == 5


def test_a_request_begun_in_time_counts_to_its_end():
    clock = FakeClock()
    server = Server(clock, itertools.repeat(7.0))
    result = closed_loop(as_submit(server), num_users=1, duration_s=10.0, warm_up=0, clock=clock)
    assert (result.completed, result.seconds) == (2, 14.0)
    assert result.rate_per_s == 2 / 14


def test_the_users_requests_are_in_flight_together():
    together = threading.Barrier(3)

    def answer() -> None:
        together.wait(timeout=30)

    result = closed_loop(as_submit(answer), num_users=3, duration_s=1e-9)
    assert (result.completed, result.failed) == (3, 0)  # one alone would wait for ever


def test_users_wait_for_futures():
    with ThreadPoolExecutor(1) as executor:
        submit = as_submit(lambda: 1, executor=executor)
        assert closed_loop(submit, num_users=2, duration_s=1e-9).completed == 2


def test_what_fails_and_what_is_refused_is_counted_and_no_latency():
    clock = FakeClock()
    broken = RuntimeError("broken")
    server = Server(clock, [1.0, broken, QueueFull("full"), ValueError("again"), 1.0, 1.0])
    result = closed_loop(as_submit(server), num_users=1, duration_s=5.0, warm_up=0, clock=clock)
    assert (result.completed, result.failed, result.rejected) == (2, 2, 1)
    assert result.latencies_s == (1.0, 1.0)
    assert result.error is broken


def test_an_answer_that_never_comes_is_a_failure():
    clock = FakeClock()

    def submit() -> Future:
        clock.time += 1.0
        return Future()

    result = closed_loop(submit, num_users=1, duration_s=2.0, warm_up=0, timeout_s=0.0, clock=clock)
    assert (result.completed, result.failed) == (0, 2)
    assert isinstance(result.error, TimeoutError)
    assert (result.rate_per_s, result.percentile_ms(50)) == (0.0, float("inf"))


def test_a_warm_up_that_fails_is_raised_and_nobody_waits_for_ever():
    calls = itertools.count()

    def answer() -> None:
        if next(calls) == 1:
            raise ZeroDivisionError("warm-up")

    with pytest.raises(ZeroDivisionError, match="warm-up"):
        closed_loop(as_submit(answer), num_users=4, duration_s=60.0)


def test_arrivals_are_the_seeds_and_have_the_rate():
    times = list(arrival_times(50, duration_s=100, seed=3))
    assert times == sorted(times) == list(arrival_times(50, duration_s=100, seed=3))
    assert times != list(arrival_times(50, duration_s=100, seed=4))
    assert times[0] > 0
    assert times[-1] < 100
    assert 4700 < len(times) < 5300
    gaps = [b - a for a, b in itertools.pairwise(times)]
    longer = sum(gap > 1 / 50 for gap in gaps) / len(gaps)
    assert 0.33 < longer < 0.41  # 1/e of exponential gaps exceed their mean


def test_an_open_loop_sends_at_the_arrivals_whatever_is_in_flight():
    clock = FakeClock()
    due = list(arrival_times(10, duration_s=2, seed=7))
    pending: list[Future] = []

    def submit() -> Future:
        pending.append(Future())
        if len(pending) == len(due):  # the last arrived: now everything is answered at once
            clock.time = 103.0
            for future in pending:
                future.set_result(None)
        return pending[-1]

    result = open_loop(submit, rate_per_s=10, duration_s=2, seed=7, warm_up=0, clock=clock)
    assert clock.waits == [100 + time for time in due]
    assert result.completed == len(due)
    assert result.latencies_s == pytest.approx([3 - time for time in due])
    assert result.seconds == 3.0


def test_latency_counts_from_when_a_request_was_due():
    """A sender that was kept from sending must not hide what the users waited."""
    clock = FakeClock(late_by=0.5)
    result = open_loop(answered, rate_per_s=10, duration_s=2, seed=7, warm_up=0, clock=clock)
    assert result.latencies_s == pytest.approx([0.5] * result.completed)


def test_more_than_may_be_in_flight_is_rejected():
    clock = FakeClock()
    num_arrivals = len(list(arrival_times(10, duration_s=2, seed=7)))
    result = open_loop(
        Future,
        rate_per_s=10,
        duration_s=2,
        seed=7,
        max_in_flight=3,
        warm_up=0,
        timeout_s=0.0,
        clock=clock,
    )
    assert (result.completed, result.failed) == (0, 3)  # never answered
    assert result.rejected == num_arrivals - 3
    assert isinstance(result.error, TimeoutError)


def test_an_answer_after_the_end_changes_nothing():
    pending: list[Future] = []

    def submit() -> Future:
        pending.append(Future())
        return pending[-1]

    result = open_loop(
        submit, rate_per_s=10, duration_s=1, warm_up=0, timeout_s=0.0, clock=FakeClock()
    )
    for future in pending:
        future.set_result(None)
    assert (result.completed, result.failed) == (0, len(pending))


def test_an_open_loop_counts_failures_and_refusals():
    outcomes = itertools.cycle([QueueFull("full"), RuntimeError("broken"), None])

    def submit() -> Future:
        outcome = next(outcomes)
        if isinstance(outcome, QueueFull):
            raise outcome
        future: Future = Future()
        if outcome is None:
            future.set_result(1)
        else:
            future.set_exception(outcome)
        return future

    result = open_loop(submit, rate_per_s=30, duration_s=1, seed=1, warm_up=0, clock=FakeClock())
    assert abs(result.completed - result.failed) <= 1
    assert abs(result.failed - result.rejected) <= 1
    assert isinstance(result.error, RuntimeError)


def test_an_open_loop_of_threads_is_waited_for():
    with ThreadPoolExecutor(2) as executor:
        submit = as_submit(lambda: 1, executor=executor)
        result = open_loop(submit, rate_per_s=1000, duration_s=0.01, seed=2)
    assert result.failed == 0
    assert result.completed == len(list(arrival_times(1000, duration_s=0.01, seed=2)))


def test_a_thread_that_is_busy_makes_the_next_requests_wait_in_order():
    clock = FakeClock()
    due = list(arrival_times(10, duration_s=2, seed=7))
    answers = Server(clock, itertools.repeat(1.0))
    result = open_loop_of_threads(
        answers, num_threads=1, rate_per_s=10, duration_s=2, seed=7, warm_up=0, clock=clock
    )
    ends = [due[0] + 1.0 + number for number in range(len(due))]  # it never idles
    assert result.latencies_s == pytest.approx(
        [end - time for end, time in zip(ends, due, strict=True)]
    )
    assert result.seconds == pytest.approx(ends[-1])


def test_threads_answer_at_once():
    together = threading.Barrier(2)
    seed = next(n for n in range(99) if len(list(arrival_times(9, duration_s=1, seed=n))) == 6)

    def answer() -> None:
        together.wait(timeout=30)  # one thread alone would wait for ever

    result = open_loop_of_threads(
        answer, num_threads=2, rate_per_s=9, duration_s=1, seed=seed, clock=FakeClock()
    )
    assert (result.completed, result.failed) == (6, 0)


def test_failures_of_threads_are_counted():
    clock = FakeClock()
    outcomes = itertools.cycle([QueueFull("full"), RuntimeError("broken"), 0.0])
    server = Server(clock, outcomes)
    result = open_loop_of_threads(
        server, num_threads=1, rate_per_s=30, duration_s=1, seed=1, warm_up=0, clock=clock
    )
    assert result.completed > 0
    assert abs(result.completed - result.failed) <= 1
    assert abs(result.failed - result.rejected) <= 1
    assert isinstance(result.error, RuntimeError)


def test_a_failing_warm_up_of_threads_is_raised_and_nobody_waits_for_ever():
    calls = itertools.count()

    def answer() -> None:
        if next(calls) == 1:
            raise ZeroDivisionError("warm-up")

    with pytest.raises(ZeroDivisionError, match="warm-up"):
        open_loop_of_threads(answer, num_threads=3, rate_per_s=1, duration_s=60)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"num_users": 0, "duration_s": 1}, "num_users"),
        ({"num_users": 1, "duration_s": 0}, "duration_s"),
        ({"rate_per_s": 0, "duration_s": 1}, "rate_per_s"),
        ({"rate_per_s": 1, "duration_s": -1}, "duration_s"),
        ({"rate_per_s": 1, "duration_s": 1, "max_in_flight": 0}, "max_in_flight"),
    ],
)
def test_wrong_arguments_are_named(options, name):
    loop = closed_loop if "num_users" in options else open_loop
    with pytest.raises(ValueError, match=f"^{name} must be"):
        loop(answered, **options)
