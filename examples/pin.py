"""Runs torch operators on chosen cores, and leaves the process as it was.

Prints:
    inside: one thread per core of the pool: True
    worker: decorated calls are pinned too: True
    outside: mask and thread count as before: True
"""

from __future__ import annotations

import os

import torch

import corestream


def main() -> None:
    pool = corestream.CPUPool()  # the physical cores that this process may use
    mask, threads = os.sched_getaffinity(0), torch.get_num_threads()

    with corestream.pin(pool):
        torch.rand(256, 256) @ torch.rand(256, 256)
        is_pinned = torch.get_num_threads() == len(pool)
    print("inside: one thread per core of the pool:", is_pinned)

    @corestream.pin(corestream.CPUPool(pool.core_ids[:1]))
    def on_one_core() -> set[int]:
        return os.sched_getaffinity(0)

    print("worker: decorated calls are pinned too:", on_one_core() == {pool.core_ids[0]})

    is_restored = (os.sched_getaffinity(0), torch.get_num_threads()) == (mask, threads)
    print("outside: mask and thread count as before:", is_restored)


if __name__ == "__main__":
    main()
