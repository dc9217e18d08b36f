"""Torch's inter-op pool: the threads that run what `torch.jit.fork` starts outside of streams.

The process has one, which starts with the first fork. Its size can be chosen once and before
that; torch's default is the number of CPUs of the machine, whatever the mask and the quota say.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import index

from corestream.errors import CorestreamError
from corestream.runtime.threads import read_thread, thread_ids

# What torch calls the pool's threads (aten/src/ATen/ParallelThreadPoolNative.cpp). The kernel is
# the only one to ask: torch tells the size of the pool, but not whether there is a pool.
_THREAD_NAME = "PTThreadPool"


@dataclass(frozen=True, slots=True, kw_only=True)
class InteropPool:
    """Torch's inter-op pool as it is now.

    `num_threads` is its size, or the size that it will have; `thread_ids` are its threads, none
    before the first fork; `cpus` are the CPU lists that they may run on: they keep the mask of
    the thread that forked first.

    Example:
        >>> pool = interop_pool()
        >>> pool.is_started == (len(pool.thread_ids) > 0)
        True

    Thread-safe: a value that never changes; holds the GIL.
    """

    num_threads: int
    thread_ids: tuple[int, ...]
    cpus: tuple[str, ...]

    @property
    def is_started(self) -> bool:
        """Whether its threads run, in this process: a forked child has none of them."""
        return bool(self.thread_ids)


def interop_pool() -> InteropPool:
    """Return torch's inter-op pool as it is now, without starting it.

    Returns:
        Its size and its threads.

    Example:
        >>> interop_pool().num_threads >= 1
        True

    Thread-safe; reads /proc with the GIL held.
    """
    import torch

    states = [read_thread(thread) for thread in thread_ids()]
    found = [state for state in states if state is not None and state.name == _THREAD_NAME]
    return InteropPool(
        num_threads=torch.get_num_interop_threads(),
        thread_ids=tuple(state.thread_id for state in found),
        cpus=tuple(sorted({state.cpus for state in found})),
    )


def set_num_interop_threads(num_threads: int) -> None:
    """Choose the size of torch's inter-op pool, before it starts.

    As `torch.set_num_interop_threads`, which raises a RuntimeError that names neither the size
    nor the way out, and does so even if the pool has the wanted size: that is no error here.
    Streams do not use the pool: what is forked in a task runs on its executor's own streams.

    Args:
        num_threads: How many threads, at least 1.

    Raises:
        TypeError: `num_threads` is not an integer.
        ValueError: `num_threads` is less than 1.
        CorestreamError: Too late: the pool has another size already.

    Example:
        >>> set_num_interop_threads(0)
        Traceback (most recent call last):
        ...
        ValueError: num_threads must be at least 1; got 0; ...

    Thread-safe; holds the GIL.
    """
    import torch

    if isinstance(num_threads, bool) or not hasattr(num_threads, "__index__"):
        raise TypeError(f"num_threads must be an integer; got {num_threads!r}; write for example 1")
    wanted = index(num_threads)
    if wanted < 1:
        raise ValueError(
            f"num_threads must be at least 1; got {wanted!r}; with 1, forked work still runs "
            "beside its caller"
        )
    try:
        torch.set_num_interop_threads(wanted)
    except RuntimeError as error:
        pool = interop_pool()
        if pool.num_threads == wanted:
            return
        cause = (
            f"its threads run since the first torch.jit.fork, {len(pool.thread_ids)} of them"
            if pool.is_started
            else "it was set before, or the pool has started"
        )
        raise CorestreamError(
            f"num_threads must be chosen once, before the inter-op pool starts; got {wanted!r} "
            f"where the size is {pool.num_threads} already: {cause}; call this right after "
            "`import torch`, in the main module"
        ) from error
