"""How far a long lowering is: a bar on a terminal, or a function of the caller's."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

# What takes no longer needs no bar.
_QUIET_S = 3.0
_WIDTH = 24

Callback = Callable[[str, float], object]


class Progress:
    """Steps of known number, drawn by :meth:`tick` from the thread that waits for them.

    Args:
        callback: Called with what is being done and the share that is done, once for each step;
            None: a bar on stderr if that is a terminal; False: nothing.
        num_steps: How many times :meth:`step` will be called.
    """

    def __init__(self, callback: Callback | bool | None, *, num_steps: int) -> None:
        self._callback = callback if callable(callback) else None
        is_wanted = callback is None or callback is True
        self._draws = is_wanted and sys.stderr.isatty()
        self._num_steps = num_steps
        self._start_s = time.monotonic()
        self._state = ("", 0)
        self._told: tuple[str, int] | None = None
        self._is_drawn = False

    @property
    def has_callback(self) -> bool:
        """Whether somebody must hear of a step before it begins."""
        return self._callback is not None

    def step(self, text: str) -> None:
        """A step begins. On the working thread; whoever waits shows it."""
        self._state = (text, self._state[1] + 1)

    def tick(self) -> None:
        """Shows the state."""
        text, number = state = self._state
        if number == 0:
            return
        done = min(1.0, (number - 1) / self._num_steps)
        if self._callback is not None and state != self._told:
            self._told = state
            self._callback(text, done)
        elapsed_s = time.monotonic() - self._start_s
        if self._draws and elapsed_s > _QUIET_S:
            bar = ("#" * round(done * _WIDTH)).ljust(_WIDTH, ".")
            sys.stderr.write(f"\r\x1b[K[{bar}] {text}, {elapsed_s:.0f} s")
            sys.stderr.flush()
            self._is_drawn = True

    def close(self) -> None:
        """Takes the bar away; the callback hears of the end."""
        if self._callback is not None:
            self._callback("done", 1.0)
        if self._is_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
