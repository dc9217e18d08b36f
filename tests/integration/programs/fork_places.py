"""fork_places.py CASE...: forks from places where a process seldom does."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any

import support
import torch

import corestream

NUM_FORKS = 10


def ten_forks_of_a_used_main() -> Any:
    """With a team on the main thread, a child's first parallel region waits for ever under
    libgomp; corestream's fork handler ends that team."""
    with corestream.TaskExecutor(num_streams=1):
        expected = support.use_torch_in_parallel()
        children = []
        for _ in range(NUM_FORKS):
            children.append(support.in_forked_child(support.use_torch_in_parallel))
            support.use_torch_in_parallel()
    return {"children": children, "expected": expected}


def after_pin_alone() -> Any:
    """No executor was ever made."""
    with corestream.pin(corestream.CPUPool()):
        expected = support.use_torch_in_parallel()
    support.use_torch_in_parallel()
    return {
        "children": [support.in_forked_child(support.use_torch_in_parallel)],
        "expected": expected,
    }


def inside_pin() -> Any:
    pool = corestream.CPUPool()
    with corestream.pin(pool):
        support.use_torch_in_parallel()
        before = support.mask()
        child = support.in_forked_child(support.use_torch_in_parallel)
        torch.zeros(300_000).add_(1)
        inside = support.mask()
    return {
        "children": [child],
        "expected": support.use_torch_in_parallel(),
        "is_pinned": before == inside == [pool.core_ids[0]],
        "outside": support.mask(),
    }


def from_a_stream(cpu_pool: corestream.CPUPool, ending: Callable[[], Any]) -> Any:
    """The callable that a stream runs forks; the child is a copy of the stream's thread."""
    executor = corestream.TaskExecutor(cpu_pool)
    task = corestream.Task(support.scripted(), executor)

    def use_both() -> Any:
        support.use_torch_in_parallel()
        return task(support.INPUT).get().tolist()

    def fork_and_audit() -> Any:
        child = support.in_forked_child(use_both, ending=ending)
        # Here, before the task is over: the stream must know its new threads by now.
        return child, executor.audit().problems

    child, problems = executor.submit(fork_and_audit).get()
    executor.shutdown()
    return {
        "children": [child],
        "expected": (support.INPUT * 2 + 1).tolist(),
        "problems": problems,
        "outside": support.mask(),
    }


def from_a_stream_with_a_team() -> Any:
    return from_a_stream(corestream.CPUPool(), lambda: os._exit(0))


def from_a_stream_of_one_core() -> Any:
    """The stream's slice is not what the child should start with."""
    return from_a_stream(corestream.CPUPool([support.mask()[-1]]), lambda: os._exit(0))


def from_a_stream_and_return() -> Any:
    """The child's callable returns to a stream that has no executor any more."""
    return from_a_stream(corestream.CPUPool(), lambda: None)


def _work(results: Any) -> None:
    results.put({"exit_code": 0, "mask": support.mask(), "value": support.use_torch_in_parallel()})


def _use_again(streams: corestream.MultiStreamModule) -> dict[str, Any]:
    after = streams(support.INPUT).tolist()
    streams.executor.shutdown()
    return {"after": after, "after_expected": (support.INPUT * 2 + 1).tolist()}


def multiprocessing_fork() -> Any:
    context = multiprocessing.get_context("fork")
    streams = corestream.MultiStreamModule(support.scripted())
    streams(support.INPUT)
    expected = support.use_torch_in_parallel()
    results = context.SimpleQueue()
    processes = [context.Process(target=_work, args=(results,)) for _ in range(2)]
    for process in processes:
        process.start()
    children = [results.get() for _ in processes]
    for process, child in zip(processes, children, strict=True):
        process.join()
        child["exit_code"] = process.exitcode
    return {"children": children, "expected": expected, **_use_again(streams)}


class Rows(torch.utils.data.Dataset):
    """Each row is computed by torch in the worker, which reports its mask with it."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        x = torch.zeros(300_000).add_(index).sigmoid_()
        return float(x[0]), support.mask()


def data_loader() -> Any:
    with corestream.pin(corestream.CPUPool()):
        support.use_torch_in_parallel()
    streams = corestream.MultiStreamModule(support.scripted())
    streams(support.INPUT)
    support.use_torch_in_parallel()
    loader = torch.utils.data.DataLoader(
        Rows(), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    rows = list(loader)
    return {
        "children": [{"exit_code": 0, "mask": mask, "value": value} for value, mask in rows],
        "expected": [float(torch.tensor(float(index)).sigmoid()) for index in range(4)],
        **_use_again(streams),
    }


CASES = (
    after_pin_alone,
    inside_pin,
    ten_forks_of_a_used_main,
    from_a_stream_with_a_team,
    from_a_stream_of_one_core,
    from_a_stream_and_return,
    multiprocessing_fork,
    data_loader,
)

if __name__ == "__main__":
    support.report({case.__name__: case() for case in CASES if case.__name__ in sys.argv[1:]})
