"""fork_matrix.py KIND: forks in each state of the process, once for each use of the child."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import support
import torch

import corestream
from corestream.errors import ForkedFuture

EXPECTED = (support.INPUT * 2 + 1).tolist()


def spin_until_set(flag: torch.Tensor) -> torch.Tensor:
    # Writing beside the flag keeps TorchScript from reading it once, before the loop.
    while bool(flag[0] == 0):
        flag[1].add_(1)
    return flag


class Pool:
    """A pool of one kind: `use` it, make it `busy`, let it go idle again."""

    def __init__(self) -> None:
        self.futures: list[corestream.Future] = []

    executor: corestream.TaskExecutor

    def use(self) -> Any:
        raise NotImplementedError(type(self).__name__)

    def start_work(self) -> None:
        raise NotImplementedError(type(self).__name__)

    def end_work(self) -> None:
        for future in self.futures:
            future.get()
        self.futures = []


class ScriptPool(Pool):
    """TorchScript in native code; it is running, without the GIL, while the process forks."""

    def __init__(self) -> None:
        super().__init__()
        self.executor = corestream.TaskExecutor(num_streams=1)
        self._task = corestream.Task(support.scripted(), self.executor)
        self._spin = corestream.Task(torch.jit.script(spin_until_set), self.executor)
        self._flag = torch.zeros(2)

    def use(self) -> Any:
        return self._task(support.INPUT).get().tolist()

    def start_work(self) -> None:
        self._flag.zero_()
        self.futures = [self._spin(self._flag), self._task(support.INPUT)]
        support.wait_until(self.futures[0].running)

    def end_work(self) -> None:
        self._flag[0] = 1
        super().end_work()


class PythonPool(Pool):
    """A Python callable; it waits for an event while the process forks."""

    def __init__(self) -> None:
        super().__init__()
        self.executor = corestream.TaskExecutor(num_streams=1)
        self._task = corestream.Task(support.Affine().forward, self.executor)

    def use(self) -> Any:
        return self._task(support.INPUT).get().tolist()

    def start_work(self) -> None:
        started, self._may_end = threading.Event(), threading.Event()

        def block() -> None:
            started.set()
            self._may_end.wait()

        self.futures = [self.executor.submit(block), self._task(support.INPUT)]
        started.wait()

    def end_work(self) -> None:
        self._may_end.set()
        super().end_work()


class MultiStreamPool(Pool):
    """Many short calls in flight on all streams while the process forks."""

    def __init__(self) -> None:
        super().__init__()
        self._module = corestream.MultiStreamModule(support.scripted())
        self.executor = self._module.executor

    def use(self) -> Any:
        return self._module(support.INPUT).tolist()

    def start_work(self) -> None:
        large = torch.ones(64, 4096)
        self.futures = [self._module.forward_async(large) for _ in range(300)]
        support.wait_until(lambda: self.futures[0].running() or self.futures[0].done())


POOLS = {"script": ScriptPool, "python": PythonPool, "multi_stream": MultiStreamPool}


def outcome_of(future: corestream.Future) -> str:
    """What a child gets from a future of its parent."""
    was_done = future.done()
    try:
        future.get(timeout=10)
    except ForkedFuture:
        return "ForkedFuture"
    return "value" if was_done else "value of a task that had not ended"


def use_pool(pool: Pool) -> dict[str, Any]:
    of_parent = [outcome_of(future) for future in pool.futures[-2:]]
    is_right = pool.use() == EXPECTED
    audit = pool.executor.audit()
    return {
        "is_right": is_right,
        "of_parent": of_parent,
        # The parent's thread ids would be missing in the child.
        "problems": [text for text in audit.problems if "libgomp sleeps" not in text],
    }


def enter(state: str, pool: Pool) -> Callable[[], None]:
    """Brings the process into `state`; returns what ends it."""
    if state == "main_used":
        support.use_torch_in_parallel()
    elif state == "pool_idle":
        pool.use()
    elif state == "pool_busy":
        pool.use()
        pool.start_work()
        return pool.end_work
    return lambda: None


def fork_in(state: str, pool: Pool) -> dict[str, Any]:
    uses: dict[str, Callable[[], Any]] = {
        "torch": support.use_torch_in_parallel,
        "pool": lambda: use_pool(pool),
        "exit": lambda: None,
    }
    children = {}
    for use, action in uses.items():
        leave = enter(state, pool)
        children[use] = support.in_forked_child(action)
        leave()
    # Under main_used the parent's own team is left over, which the audit would rightly report.
    corestream.release_idle_team()
    parent = {
        "is_right": pool.use() == EXPECTED,
        "mask": support.mask(),
        "problems": pool.executor.audit().problems,
    }
    return {"children": children, "parent": parent}


def main() -> None:
    pool = POOLS[sys.argv[1]]()
    # The main thread stays unused until the last state.
    states = ("main_unused", "pool_idle", "pool_busy", "main_used")
    reports = {state: fork_in(state, pool) for state in states}
    support.report({"states": reports, "torch": support.use_torch_in_parallel()})


if __name__ == "__main__":
    main()
