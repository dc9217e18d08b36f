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
        self.start()
        while True:
            self.join(every_s)
            if not self.is_alive():
                return self.result()
            tick()
