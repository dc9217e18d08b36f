"""Pinned streams that run tasks."""

from __future__ import annotations

import itertools
import os
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from corestream import _native
from corestream.cpu.pool import CPUPool
from corestream.errors import CorestreamWarning, ShutDown
from corestream.runtime.audit import Audit, audit_streams
from corestream.runtime.callee import make_callee
from corestream.runtime.environment import warn_of_problems
from corestream.runtime.future import Future
from corestream.runtime.lifecycle import live_executors, shut_down_at_exit

if TYPE_CHECKING:
    from corestream import _torch
    from corestream.profiles.profile import Profile
    from corestream.runtime.auto import AutoChoice


_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of an executor.

    Attributes:
        core_ids: Its CPUs; member i of its team is pinned to the i-th.
        team_size: Threads of its parallel regions, the worker included.
        thread_ids: Linux thread ids of the members, the worker first.

    Thread-safe: a value that never changes.
    """

    core_ids: tuple[int, ...]
    team_size: int
    thread_ids: tuple[int, ...]


class TaskExecutor:
    """Streams that own the cores of a pool and run tasks on them.

    A stream is one worker thread and its OpenMP team, pinned to a part of the pool, for as long
    as the executor lives. Tasks wait in one queue; the first idle stream takes the oldest.

    Args:
        cpu_pool: The cores; None: ``CPUPool()``, all that this process may use.
        num_streams: The pool is split into this many parts. "AUTO": as many as suit ``model``, as
            for MultiStreamModule; one per core where nothing is known of it.
        queue_capacity: Tasks that may wait; None: any number. A task that would exceed it is
            refused with QueueFull.
        model: What will run, for "AUTO": its profile decides, or else its weights.
        profile: What "AUTO" goes by, or its file, instead of the one saved for the machine and
            model.

    Raises:
        TypeError: An argument is of another type.
        ValueError: ``num_streams`` is not between 1 and ``len(cpu_pool)`` nor "AUTO", or
            ``profile`` is of another machine or model.
        OSError: A core could not be had or a thread not made; nothing is left running.

    Example:
        >>> import corestream, torch
        >>> with corestream.TaskExecutor(num_streams=1) as executor:
        ...     future = executor.submit(torch.ones, 2)
        ...     future.get()
        tensor([1., 1.])

    Thread-safe; starting, waiting and shutting down release the GIL.
    """

    def __init__(
        self,
        cpu_pool: CPUPool | None = None,
        num_streams: int | str = 1,
        *,
        queue_capacity: int | None = None,
        model: Any = None,
        profile: Profile | str | os.PathLike[str] | None = None,
    ) -> None:
        pool = CPUPool() if cpu_pool is None else cpu_pool
        if not isinstance(pool, CPUPool):
            raise TypeError(
                f"cpu_pool must be a CPUPool; got {cpu_pool!r}; write CPUPool({cpu_pool!r})"
            )
        self._auto: AutoChoice | None = None
        if isinstance(num_streams, str):
            from corestream.runtime.auto import choose_streams  # loads torch

            check_auto(num_streams)
            self._auto = choose_streams(pool, model=model, profile=profile)
            pool, num_streams = self._auto.cpu_pool, self._auto.num_streams
        else:
            check_count(num_streams, name="num_streams", at_most=len(pool))
            check_no_profile(num_streams, profile=profile)
        self._pool = pool
        warn_of_problems()
        if queue_capacity is not None:
            check_count(queue_capacity, name="queue_capacity")
        self._native = _native.torch_ext.Executor(
            cpus=[part.core_ids for part in self._pool.split(num_streams)],
            queue_capacity=queue_capacity or 0,
            name=f"cs-e{next(_numbers)}",
            idle_spin_us=100.0,
        )
        self._num_streams = num_streams
        self._callees: weakref.WeakKeyDictionary[Any, _torch.Callee] = weakref.WeakKeyDictionary()
        shut_down_at_exit(self._native)

    @property
    def cpu_pool(self) -> CPUPool:
        """The cores that the streams own.

        Thread-safe; never changes.
        """
        return self._pool

    @property
    def num_streams(self) -> int:
        """How many streams there are.

        Thread-safe; never changes.
        """
        return self._num_streams

    @property
    def auto(self) -> AutoChoice | None:
        """What "AUTO" came to and why; None where the number of streams was given.

        Thread-safe; never changes.
        """
        return self._auto

    @property
    def streams(self) -> tuple[StreamInfo, ...]:
        """The streams: their CPUs, team sizes and thread ids.

        Thread-safe; in a forked child it starts the streams anew, without the GIL.
        """
        return _streams_of(self._native)

    @property
    def pending(self) -> int:
        """How many tasks wait for a stream.

        Thread-safe; old news by the time it is read.
        """
        return self._native.pending()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Runs ``fn(*args, **kwargs)`` on a stream and returns at once.

        ``fn`` may be whatever :class:`Task` takes; a Task is prepared once and is cheaper for
        repeated calls.

        Args:
            fn: A callable; a ScriptModule runs without the GIL.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The handle to its outcome.

        Raises:
            TypeError: ``fn`` cannot be called.
            QueueFull: ``queue_capacity`` tasks wait already.
            ShutDown: :meth:`shutdown` was called.

        Thread-safe; Python callables run with the GIL, ScriptModules without.
        """
        import torch

        # A script's callee holds what its graph was specialised to: made anew for each call, every
        # call would be the first one. It keeps the C++ module alive, not its Python object.
        is_script = isinstance(fn, torch.jit.ScriptModule | torch.jit.ScriptFunction)
        callee = self._callees.get(fn) if is_script else None
        if callee is None:
            callee = make_callee(fn, num_streams=self._num_streams)
            if is_script:
                self._callees[fn] = callee
        return Future(self._native.submit(callee, args, kwargs))

    def audit(self) -> Audit:
        """Compares where every thread may run, as /proc has it, with where it should.

        Returns:
            The streams' threads, planned and actual, OpenMP threads outside the streams, and
            problems in words.

        Raises:
            ShutDown: :meth:`shutdown` was called.

        Thread-safe; reads /proc with the GIL held.
        """
        if self._native.is_shut_down:
            raise ShutDown("the executor must be running; got one after shutdown(); make a new one")
        return audit_streams(self.streams)

    def repin(self) -> None:
        """Pins every team anew, after something may have replaced its threads.

        A model compiled for another number of threads makes OpenMP end or add team members;
        :meth:`audit` shows it.

        Raises:
            OSError: A core could not be had.

        Thread-safe; waits for each stream to be free, without the GIL.
        """
        self._native.repin()

    def mend_teams(self) -> None:
        """Audits the streams; if anything is amiss, warns of it and pins every team anew.

        Raises:
            OSError: A core could not be had.
            ShutDown: :meth:`shutdown` was called.

        Thread-safe; waits for each stream to be free, without the GIL.
        """
        problems = self.audit().problems
        if not problems:
            return
        self.repin()
        for problem in problems:
            warnings.warn(problem, CorestreamWarning, stacklevel=3)

    def shutdown(self, wait: bool = True, *, cancel_pending: bool = False) -> None:
        """Refuses further tasks and ends the streams.

        Args:
            wait: Return only when every thread has ended.
            cancel_pending: Cancel tasks that have not started instead of running them.

        Thread-safe; waiting releases the GIL.
        """
        self._native.shutdown(wait=wait, cancel_pending=cancel_pending)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown(wait=True)

    def __repr__(self) -> str:
        state = ", shut down" if self._native.is_shut_down else ""
        return f"TaskExecutor({self._pool!r}, num_streams={self._num_streams}{state})"


def live_streams() -> list[StreamInfo]:
    """The streams of every executor of this process that takes work."""
    return [
        stream
        for executor in live_executors()
        if executor.has_streams and not executor.is_shut_down
        for stream in _streams_of(executor)
    ]


def _streams_of(executor: _torch.Executor) -> tuple[StreamInfo, ...]:
    return tuple(
        StreamInfo(core_ids=tuple(cpus), team_size=team_size, thread_ids=tuple(thread_ids))
        for cpus, team_size, thread_ids in executor.streams()
    )


def check_auto(num_streams: str) -> None:
    """Raises for another text than "AUTO"."""
    if num_streams != "AUTO":
        raise ValueError(
            f'num_streams must be an int or "AUTO"; got {num_streams!r}; write "AUTO" for as many '
            f"streams as suit the model"
        )


def check_no_profile(num_streams: int, *, profile: object) -> None:
    """Raises if there is a profile for a number of streams that was given."""
    if profile is not None:
        raise ValueError(
            f'num_streams must be "AUTO" for a profile to decide it; got {num_streams} and '
            f"{profile!r}; leave one of them out"
        )


def check_count(value: object, *, name: str, at_most: int | None = None) -> None:
    """Raises unless `value` is an int from 1 to `at_most`."""
    constraint = "an int of at least 1" if at_most is None else f"an int from 1 to {at_most}"
    text = f"{name} must be {constraint}; got {value!r}; pass a number of that range"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(text)
    if value < 1 or (at_most is not None and value > at_most):
        raise ValueError(text)
