"""The exceptions and warnings of corestream.

    Exception
     ├── CorestreamError          root of what corestream raises besides built-in errors
     │    ├── QueueFull           a bounded queue has no room; nothing was queued
     │    ├── ShutDown            the executor no longer takes work
     │    ├── ForkedFuture        the task was submitted in the process this one was forked from
     │    ├── CoresTaken          other processes claimed the cores in the ledger
     │    ├── LoweringError       no backend could lower the model; the text has every reason
     │    └── ModelFileError      a saved model cannot be used here; the text says what to do
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


class CoresTaken(CorestreamError):
    """Other processes have claimed the cores in the ledger; they are free when those end."""


class LoweringError(CorestreamError):
    """No backend could turn the model into something that streams run; says why, for each."""


class ModelFileError(CorestreamError):
    """A saved model is damaged, or was made for another torch or another kind of CPU."""


class CorestreamWarning(UserWarning):
    """Something was dropped, clamped or ignored; the message says what and why."""
