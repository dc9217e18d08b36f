"""Where lowering runs: on a thread that ends, one at a time in the process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")

# Compilers are not safe to run twice at once (pytorch#118260).
_one_at_a_time = threading.Lock()


def _renew_lock() -> None:
    global _one_at_a_time
    _one_at_a_time = threading.Lock()


# A child that is forked while another thread lowers has the lock, and not the thread.
os.register_at_fork(after_in_child=_renew_lock)

_ticking = threading.local()


def check_is_not_ticking() -> None:
    """Raises RuntimeError in a `tick`: the call that waits for it has the lock."""
    if getattr(_ticking, "is_on", False):
        raise RuntimeError(
            "lower must not be called by its progress callback; got such a call; note what to "
            "lower, and do it when the first is done"
        )


class IsolatedCall(threading.Thread, Generic[Value]):
    """Calls a function on a thread of its own, under the process-wide lock of lowering.

    The OpenMP team that compiling and tracing made ends with the thread; libgomp would count it
    against the streams for ever (docs/oversubscription.md). A new thread has grad mode, autocast
    and inference mode as PyTorch's defaults, whatever the caller's are.
    """

    def __init__(self, function: Callable[[], Value]) -> None:
        super().__init__(name="corestream-lower")
        self._function = function
        self._value: list[Value] = []
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._num_wanted = self._num_ticks = 0
        self._is_over = self._is_left = False

    def run(self) -> None:
        """What the thread does."""
        import torch

        try:
            with _one_at_a_time, torch.no_grad():
                self._value.append(self._function())
        except BaseException as error:  # noqa: BLE001 (raised in the caller)
            self._error = error
        finally:
            del self._function  # it holds the model
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def result(self) -> Value:
        """What the function returned, or its exception. Requires: the thread has ended."""
        try:
            if self._error is not None:
                raise self._error
            return self._value[0]
        finally:
            self._error = None  # its traceback holds this frame: a cycle

    def wait(self, tick: Callable[[], Any], *, every_s: float) -> Value:
        """Calls `tick` now and then until the function is over; returns or raises as it did."""
        try:
            self.start()
            while not self._has_ended(every_s):
                self._tick(tick)
        finally:
            with self._changed:
                self._is_left = True
                self._changed.notify_all()
        self.join()
        return self.result()

    def await_tick(self) -> bool:
        """For the function: returns when a `tick` has begun after this call and returned.

        Returns:
            Whether that is so; False at once when nobody ticks any more, as after an interruption.
        """
        with self._changed:
            self._num_wanted += 1
            wanted = self._num_wanted
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._num_ticks >= wanted or self._is_left)
            return self._num_ticks >= wanted

    def _has_ended(self, timeout_s: float) -> bool:
        """Waits until there is something to do, or for so long."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_over or self._num_wanted > self._num_ticks, timeout_s
            )
            return self._is_over

    def _tick(self, tick: Callable[[], Any]) -> None:
        wanted = self._num_wanted
        _ticking.is_on = True
        try:
            tick()
        finally:
            _ticking.is_on = False
        with self._changed:
            self._num_ticks = wanted
            self._changed.notify_all()
