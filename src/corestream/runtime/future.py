"""The handle to a task's outcome."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corestream import _torch

_logger = logging.getLogger(__name__)

_STANDARD_STATE = {
    "queued": "PENDING",
    "running": "RUNNING",
    "done": "FINISHED",
    "cancelled": "CANCELLED_AND_NOTIFIED",
}


# Two threads that wait for one future must meet at one condition.
_bridging = threading.RLock()


class _Bridge:
    """What ``concurrent.futures.wait`` looks into; made when it first does, since most never do."""

    def __init__(self, future: Future) -> None:
        self.condition = threading.Condition()
        self.waiters: list[Any] = []
        self.is_settled = False
        self._future = future
        future._handle.add_done_callback(self._settle)

    def _settle(self) -> None:
        with self.condition:
            self.is_settled = True
            for waiter in self.waiters:
                self._tell(waiter)
            self.condition.notify_all()

    def _tell(self, waiter: Any) -> None:
        if self._future.cancelled():
            waiter.add_cancelled(self._future)
            return
        try:
            self._future.get()
        except BaseException:  # noqa: BLE001 (the waiter asks only whether it raised)
            waiter.add_exception(self._future)
        else:
            waiter.add_result(self._future)


class Future(concurrent.futures.Future[Any]):
    """The handle to a task's outcome: a value, an exception, or its cancellation.

    It is a :class:`concurrent.futures.Future`, so ``concurrent.futures.wait`` and
    ``asyncio.wrap_future`` take it, and it can be awaited. ``get`` may be called any number of
    times and gives the same object each time; dropping the future drops the value.

    Example:
        >>> import corestream
        >>> pool = corestream.CPUPool()
        >>> with corestream.TaskExecutor(pool) as executor:
        ...     future = executor.submit(max, 1, 2)
        ...     future.get(timeout=60)
        2

    Thread-safe; waiting releases the GIL.
    """

    def __init__(self, handle: _torch.Handle) -> None:
        # The standard class's state is replaced by properties: making its condition and lists
        # costs 1.5 us a future, a quarter of a task's round trip.
        self._handle = handle
        self._bridge: _Bridge | None = None

    def get(self, timeout: float | None = None) -> Any:
        """The task's value, waiting for it if need be.

        Args:
            timeout: Seconds to wait at most; None: as long as it takes.

        Returns:
            What the task returned.

        Raises:
            TimeoutError: It took longer; the task goes on.
            CancelledError: The task was cancelled.
            ForkedFuture: The task belongs to the process this one was forked from.
            Exception: What the task raised, with a note that names its stream.

        Thread-safe; waiting releases the GIL.
        """
        self._wait(timeout)
        return self._handle.result()

    def result(self, timeout: float | None = None) -> Any:
        """The same as :meth:`get`, under the standard library's name.

        Thread-safe; waiting releases the GIL.
        """
        return self.get(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, or None if it returned.

        Args:
            timeout: Seconds to wait at most; None: as long as it takes.

        Returns:
            The exception or None.

        Raises:
            TimeoutError: It took longer; the task goes on.
            CancelledError: The task was cancelled.

        Thread-safe; waiting releases the GIL.
        """
        self._wait(timeout)
        try:
            self._handle.result()
        except CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 (whatever the task raised is the answer)
            return error
        return None

    def done(self) -> bool:
        """Whether the task returned, raised or was cancelled.

        Thread-safe; does not wait.
        """
        return self._handle.is_over

    def running(self) -> bool:
        """Whether a stream has the task in hand.

        Thread-safe; does not wait.
        """
        return self._handle.state == "running"

    def cancelled(self) -> bool:
        """Whether the task was cancelled.

        Thread-safe; does not wait.
        """
        return self._handle.state == "cancelled"

    def cancel(self) -> bool:
        """Takes the task back if no stream has begun it.

        Returns:
            True if the task never ran and never will.

        Thread-safe; does not wait.
        """
        return self._handle.cancel() or self.cancelled()

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[Any]], object]) -> None:
        """Calls ``fn(self)`` when the task is over; at once if it is.

        ``fn`` runs on the stream's thread, so it should be short. What it raises is logged.

        Args:
            fn: Called with this future.

        Thread-safe; the callback runs with the GIL.
        """

        def call() -> None:
            try:
                fn(self)
            except Exception:
                _logger.exception("a done callback of %r raised", self)

        self._handle.add_done_callback(call)

    def set_running_or_notify_cancel(self) -> bool:
        """Not for callers: a task's state is its stream's to set.

        Raises:
            TypeError: Always.

        Thread-safe.
        """
        raise TypeError("a corestream.Future must be set by its stream; got a call; only wait")

    def set_result(self, result: Any) -> None:
        """Not for callers: a task's state is its stream's to set.

        Raises:
            TypeError: Always.

        Thread-safe.
        """
        self.set_running_or_notify_cancel()

    def set_exception(self, exception: BaseException | None) -> None:
        """Not for callers: a task's state is its stream's to set.

        Raises:
            TypeError: Always.

        Thread-safe.
        """
        self.set_running_or_notify_cancel()

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self).__await__()

    def __repr__(self) -> str:
        return f"<corestream.Future at {id(self):#x} {self._handle.state}>"

    def _wait(self, timeout: float | None) -> None:
        if not self._handle.wait(timeout):
            raise TimeoutError(
                f"the task must end within {timeout} s; got no result; wait again, or cancel it"
            )

    def _bridged(self) -> _Bridge:
        with _bridging:
            if self._bridge is None:
                self._bridge = _Bridge(self)
            return self._bridge

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override] # the native half knows
        return self._bridged().condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override] # the native half knows
        return self._bridged().waiters

    @property
    def _state(self) -> str:  # type: ignore[override] # the native half knows
        # For the standard library a future is over once its waiters have been told.
        state = self._handle.state
        if state in ("done", "cancelled") and not self._bridged().is_settled:
            return "RUNNING"
        return _STANDARD_STATE[state]
