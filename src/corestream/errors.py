"""The exceptions and warnings of corestream.

    Exception
     ├── CorestreamError          root of what corestream raises besides built-in errors
     │    ├── QueueFull           a bounded queue has no room; nothing was queued
     │    ├── ShutDown            the executor no longer takes work
     │    └── ForkedFuture        the task was submitted in the process this one was forked from
     └── UserWarning
          └── CorestreamWarning   something was dropped, clamped or ignored, or will be slow

Wrong arguments are ValueError or TypeError, refused affinities and threads are OSError, a
cancelled task is concurrent.futures.CancelledError, a wait that took too long is TimeoutError.
"""

from __future__ import annotations


class CorestreamError(Exception):
    """Root of every error that corestream raises besides the built-in ones."""


class QueueFull(CorestreamError):
    """A bounded queue has no room; nothing was queued, so the call can be made again later."""


class ShutDown(CorestreamError):
    """The executor was shut down and takes no more work."""


class ForkedFuture(CorestreamError):
    """The task was submitted before a fork, so the threads that would end it are elsewhere."""


class CorestreamWarning(UserWarning):
    """Something was dropped, clamped or ignored; the message says what and why."""
