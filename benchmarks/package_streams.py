"""Subject: an AOTInductor package on one stream of one core, and on one stream per core."""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import torch

import corestream
from benchmarks.models import Inputs, build, example_inputs, package
from benchmarks.models_on_cores import in_ended_thread

MODEL = "MiniLM"
BATCH = 8


def one_and_many(core_ids: list[int]) -> Callable[[float], dict[str, float]]:
    """Returns what measures both, one right after the other: sequences per second."""
    inputs = example_inputs(MODEL, batch=BATCH, dtype="fp32")
    with tempfile.TemporaryDirectory() as folder:
        # Compiled for one thread, on a thread that ends: the streams have the cores to themselves.
        path = in_ended_thread(
            lambda: package(
                build(MODEL, dtype="fp32"),
                inputs,
                path=Path(folder) / "model.pt2",
                num_threads=1,
            )
        )
        tasks = {
            "one": _task(path, core_ids[:1], inputs),
            "many": _task(path, core_ids, inputs),
        }

    def measure(seconds: float) -> dict[str, float]:
        return {name: _rate(task, inputs, seconds) for name, task in tasks.items()}

    return measure


def _task(path: Path, core_ids: list[int], inputs: Inputs) -> corestream.Task:
    executor = corestream.TaskExecutor(corestream.CPUPool(core_ids), len(core_ids))
    task = corestream.Task(path, executor)
    with torch.inference_mode():
        task.warm_up(*inputs)
    return task


def _rate(task: corestream.Task, inputs: Inputs, seconds: float) -> float:
    """Sequences per second with two calls per stream in flight, so that no stream waits."""
    depth = 2 * task.executor.num_streams
    with torch.inference_mode():
        flying = deque(task(*inputs) for _ in range(depth))
        flying.popleft().get()
        start, count = time.perf_counter(), 0
        while count < depth or time.perf_counter() - start < seconds:
            flying.append(task(*inputs))
            flying.popleft().get()
            count += 1
        elapsed = time.perf_counter() - start
        for future in flying:
            future.get()
    return BATCH * count / elapsed
