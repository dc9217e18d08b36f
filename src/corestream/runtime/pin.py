"""Pins the calling thread's OpenMP team to a pool for a while."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from corestream import _native
from corestream.cpu.pool import CPUPool
from corestream.runtime.environment import warn_of_problems

if TYPE_CHECKING:
    from corestream import _core

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class _Scope:
    owner: pin
    native: _core.TeamPin
    is_left: bool = False


class _Scopes(threading.local):
    """Per thread: the scopes it is in, innermost last."""

    def __init__(self) -> None:
        self.stack: list[_Scope] = []


_scopes = _Scopes()


class pin:  # noqa: N801 (a verb, as in the API it replaces)
    """Runs the torch operators of a block or function on the cores of a pool.

    Inside, parallel regions of the calling thread have ``len(pool)`` threads, thread i on core
    i of the pool. Leaving puts back the thread count and the mask of every thread, also after
    an exception. Other threads keep the masks they have, and a process forked inside gets the
    mask from outside. A thread or program (``subprocess``) started inside inherits the first
    core, as Linux has it: start it outside, or let it call
    ``os.sched_setaffinity(0, corestream.allowed_cpus())`` first (decision 7 in docs/decisions).

    Use it as ``with pin(pool) as pool:`` or as a decorator; the same object may be entered
    again, nested, and by several threads at once.

    Args:
        pool: The cores.

    Raises:
        TypeError: ``pool`` is not a CPUPool.
        OSError: On entering, the kernel refused a core; nothing stays pinned.
        RuntimeError: Entered inside a parallel region, or left out of order: by another thread,
            or, in coroutines that take turns, before a scope entered later, which it then ends
            with.

    Example:
        >>> import corestream, torch
        >>> with corestream.pin(corestream.CPUPool()) as pool:
        ...     torch.get_num_threads() == len(pool)
        True

    Source: ``ipex.cpu.runtime.pin`` of Intel Extension for PyTorch, with its defects mended.

    Thread-safe: acts on the calling thread only; holds the GIL while entering and leaving.
    """

    def __init__(self, pool: CPUPool) -> None:
        if not isinstance(pool, CPUPool):
            raise TypeError(f"pool must be a CPUPool; got {pool!r}; write CPUPool({pool!r})")
        self.pool = pool
        warn_of_problems()

    def __enter__(self) -> CPUPool:
        _native.torch_ext  # noqa: B018 (tells the core about ATen's and MKL's thread counts)
        _scopes.stack.append(_Scope(self, _native.core.TeamPin(self.pool.core_ids)))
        return self.pool

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stack = _scopes.stack
        own = next((one for one in reversed(stack) if one.owner is self and not one.is_left), None)
        if own is None:
            raise RuntimeError(
                f"pin must be left by the thread that entered it, once; got {self!r}; "
                f"keep `with pin(...)` out of generators that another thread resumes"
            )
        own.is_left = True
        is_innermost = own is stack[-1]
        # Each scope puts back what it found, so one that is left too soon ends with those inside.
        while stack and stack[-1].is_left:
            stack.pop().native.release()
        if not is_innermost:
            raise RuntimeError(
                f"pin must be left innermost first; got {self!r}, which ends with those inside "
                f"it; keep `await` and `yield` out of `with pin(...)`"
            )

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, run inside this pin at every call.

        Args:
            function: An ordinary function, a scripted function or a module.

        Returns:
            A function with the same signature.

        Raises:
            TypeError: ``function`` is not callable, or is a coroutine or generator function,
                whose body runs after the call has returned.

        Thread-safe: acts on the calling thread only; holds the GIL while entering and leaving.
        """
        if not callable(function):
            raise TypeError(f"function must be callable; got {function!r}; decorate a function")
        if (
            inspect.iscoroutinefunction(function)
            or inspect.isgeneratorfunction(function)
            or inspect.isasyncgenfunction(function)
        ):
            raise TypeError(
                f"function must run to its end when called; got {function!r}; "
                f"write `with pin(pool):` inside it, around code that does not yield"
            )

        def pinned(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        # Scripted modules have no __name__, which functools.wraps tolerates.
        return functools.wraps(function)(pinned)

    def __repr__(self) -> str:
        return f"pin({self.pool!r})"
