"""A closed loop: users who each wait for an answer before they send the next request."""

from __future__ import annotations

import threading

from corestream.measure.requests import (
    TIMEOUT_S,
    Clock,
    LoadResult,
    Submit,
    SystemClock,
    Tally,
    check,
)


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
        submit: Sends a request and returns its future; `as_submit` makes one of a call.
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
        >>> from corestream.measure.requests import as_submit
        >>> result = closed_loop(as_submit(lambda: sum(range(99))), num_users=2, duration_s=0.01)
        >>> result.completed > 0 and result.failed == 0
        True

    Blocks the calling thread, without the GIL; any number of loops may run.
    """
    check(num_users >= 1, f"num_users must be at least 1; got {num_users}; ask for a user")
    check(
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
    tallies = [Tally() for _ in range(num_users)]
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

    def be_a_user(self, tally: Tally) -> None:
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

    def _send_requests(self, tally: Tally) -> None:
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
