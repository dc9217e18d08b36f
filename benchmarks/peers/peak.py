"""Not a model: how fast the cores are at all, measured in turn with the models."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch

from benchmarks.machine import MATRIX_SIZES, PRODUCTS
from benchmarks.models import DTYPES
from benchmarks.table.job import Job
from benchmarks.table.runner import Runner


def load(job: Job) -> Runner:
    """The matrix product that is fastest here; a "batch" is 1e9 operations of it."""
    torch.set_num_threads(job.num_threads)
    work = []
    for size in MATRIX_SIZES:
        left, right = (torch.randn(size, size).to(DTYPES[job.dtype]) for _ in range(2))
        work += [(functools.partial(product, left, right), 2e-9 * size**3) for product in PRODUCTS]
    call, gigaflops = min(work, key=lambda item: _shortest(item[0], seconds=0) / item[1])

    def run_for(seconds: float) -> list[float]:
        return [_shortest(call, seconds=seconds) / gigaflops]

    return Runner(call, list, run_for)


def _shortest(call: Callable[[], object], *, seconds: float) -> float:
    """The shortest of at least two calls, after one that is not counted."""
    call()
    clock, times = time.perf_counter, []
    end = clock() + seconds
    while len(times) < 2 or clock() < end:
        start = clock()
        call()
        times.append(clock() - start)
    return min(times)
