"""Subjects: users who each send one sentence, wait for its embedding, and send the next."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import corestream
from benchmarks.machine import core_ids
from benchmarks.models import Inputs, build, example_inputs, freeze, package
from benchmarks.models_on_cores import in_ended_thread

MODEL = "MiniLM"

Answer = Callable[[Inputs], object]
Measure = Callable[[Sequence[int], float], list[dict[str, Any]]]


def stock(dtype: str) -> Measure:
    """Each user's thread calls the eager model, as a thread of a web server does."""
    model = build(MODEL, dtype=dtype)
    return _measure_with(lambda sentence: model(*sentence))


def streams(dtype: str, *, lowering: str, cores_per_stream: int) -> Measure:
    """Users submit to a Task: a frozen model or package on pinned streams."""
    pool = corestream.CPUPool(core_ids())
    team_size = min(cores_per_stream, len(pool))
    executor = corestream.TaskExecutor(pool, len(pool) // team_size)
    sentence = example_inputs(MODEL, batch=1, dtype=dtype)
    with tempfile.TemporaryDirectory() as folder:

        def lower() -> Any:
            model = build(MODEL, dtype=dtype)
            if lowering == "torchscript":
                return freeze(model, sentence)
            return package(model, sentence, path=Path(folder) / "model.pt2", num_threads=team_size)

        task = corestream.Task(in_ended_thread(lower), executor)
    with torch.inference_mode():
        for _ in range(3):
            task.warm_up(*sentence)
    return _measure_with(lambda inputs: task(*inputs).get())


def _measure_with(answer: Answer) -> Measure:
    def measure(users: Sequence[int], seconds: float) -> list[dict[str, Any]]:
        return [_closed_loop(answer, users=count, seconds=seconds) for count in users]

    return measure


def _closed_loop(answer: Answer, *, users: int, seconds: float) -> dict[str, Any]:
    """Latencies in seconds of all requests, and the time from the first to the last answer."""
    latencies: list[list[float]] = [[] for _ in range(users)]
    start_line = threading.Barrier(users + 1)

    def be_a_user(number: int) -> None:
        sentence = example_inputs(MODEL, batch=1, dtype="fp32", seed=number)
        clock = time.perf_counter
        with torch.inference_mode():
            answer(sentence)  # makes the thread's OpenMP team, if it will have one
            start_line.wait()
            end = clock() + seconds
            while not latencies[number] or clock() < end:
                begin = clock()
                answer(sentence)
                latencies[number].append(clock() - begin)

    threads = [threading.Thread(target=be_a_user, args=(number,)) for number in range(users)]
    for thread in threads:
        thread.start()
    start_line.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return {
        "latencies": [sample for samples in latencies for sample in samples],
        "elapsed": time.perf_counter() - start,
    }
