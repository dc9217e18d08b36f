"""What must happen to executors when the interpreter ends."""

from __future__ import annotations

import atexit
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corestream import _torch

_live: weakref.WeakSet[_torch.Executor] = weakref.WeakSet()
_is_registered = False


def shut_down_at_exit(executor: _torch.Executor) -> None:
    """Ends the executor's streams before the interpreter goes.

    A thread that asks for the GIL of a finished interpreter is killed where it stands, inside
    native code that cannot unwind. What runs at that point ends; what is queued is cancelled.
    """
    global _is_registered
    _live.add(executor)
    if not _is_registered:
        _is_registered = True
        atexit.register(_shut_down_all)


def live_executors() -> list[_torch.Executor]:
    """Every executor that somebody still holds, shut down or not."""
    return list(_live)


def _shut_down_all() -> None:
    for executor in live_executors():
        executor.shutdown(wait=True, cancel_pending=True)
