"""no_trace.py: what a process looks like before and after pools were made, used and dropped."""

from __future__ import annotations

import gc
import os
from typing import Any

import support
import torch

import corestream


class Masks(torch.utils.data.Dataset):
    """Its one row is what a DataLoader's worker sees."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: int) -> Any:
        return support.mask()


def look() -> dict[str, Any]:
    loader = torch.utils.data.DataLoader(
        Masks(), batch_size=None, num_workers=1, multiprocessing_context="fork"
    )
    return {
        "mask": support.mask(),
        "new_thread": support.in_new_thread(
            lambda: (support.mask(), torch.get_num_threads(), torch.get_num_interop_threads())
        ),
        "child": support.in_forked_child(support.mask),
        "worker": list(loader),
        "torch_threads": torch.get_num_threads(),
        "environment": dict(os.environ),
        "grad_mode": torch.is_grad_enabled(),
    }


def use_pools() -> None:
    """Everything that has streams or pins, ended in each of the ways there are."""
    pool = corestream.CPUPool()
    with corestream.pin(pool), corestream.pin(pool.slice(0, len(pool))):
        torch.zeros(300_000).add_(1)
    for num_streams in (1, len(pool)):
        with corestream.TaskExecutor(pool, num_streams=num_streams) as executor:
            task = corestream.Task(support.scripted(), executor)
            python = corestream.Task(support.Affine().forward, executor)
            futures = [work(support.INPUT) for work in (task, python) for _ in range(10)]
            assert all(future.get().shape == support.INPUT.shape for future in futures)
            executor.repin()
    streams = corestream.MultiStreamModule(support.scripted(), cpu_pool=pool)
    streams(support.INPUT)
    dropped = corestream.MultiStreamModule(support.scripted(), cpu_pool=pool)
    unfinished = dropped.forward_async(support.INPUT)
    streams.executor.shutdown()
    unfinished.cancel()


def main() -> None:
    torch.set_num_threads(torch.get_num_threads())
    corestream.is_runtime_ext_enabled()
    before, threads_before = look(), support.os_threads()
    for _ in range(3):
        use_pools()
    gc.collect()
    # A thread that was joined stays listed until the kernel has reaped it.
    support.wait_until(lambda: support.os_threads() <= threads_before)
    support.report({"before": before, "after": look(), "threads": support.os_threads()})


if __name__ == "__main__":
    main()
