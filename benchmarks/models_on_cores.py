"""Subjects: a frozen model called directly on threads, or on corestream's streams."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

import corestream
from benchmarks.measure import time_for
from benchmarks.models import Inputs, build, example_inputs, freeze
from corestream.onednn import keep_tensor_memory

Measure = Callable[[float], list[float]]


def use_main_team() -> None:
    """Runs parallel regions on the calling thread, which leaves it an idle OpenMP team."""
    for _ in range(3):
        torch.zeros(1 << 20).sigmoid_()


def in_ended_thread(function: Callable[[], Any]) -> Any:
    """The function's value, computed by a thread that has ended, and its OpenMP team with it."""
    values: list[Any] = []
    worker = threading.Thread(target=lambda: values.append(function()))
    worker.start()
    worker.join()
    return values[0]


def _frozen(model: str, *, batch: int, dtype: str) -> Any:
    return freeze(build(model, dtype=dtype), example_inputs(model, batch=batch, dtype=dtype))


def direct(model: str, *, batch: int, dtype: str, num_threads: int) -> Measure:
    """Calls on the main thread, with a team of `num_threads`."""
    torch.set_num_threads(num_threads)
    frozen = _frozen(model, batch=batch, dtype=dtype)
    inputs = example_inputs(model, batch=batch, dtype=dtype)
    return _timer(frozen, inputs)


def streams(
    model: str, *, batch: int, dtype: str, core_ids: list[int], num_streams: int, main_team: str
) -> Measure:
    """Calls through a MultiStreamModule.

    Args:
        model: Its name.
        batch: Items of a call, a multiple of `num_streams`.
        dtype: "fp32" or "bf16".
        core_ids: The cores.
        num_streams: The cores and the batch are split into as many parts.
        main_team: What the main thread did in parallel: "none"; "before" the streams were made,
            as by tracing there; "after", so that a submitted task must release it.
    """

    def make() -> Any:
        return _frozen(model, batch=batch // num_streams, dtype=dtype)

    if main_team == "none":
        frozen = in_ended_thread(make)
    else:
        frozen = make()
        use_main_team()
    if num_streams > 1 and batch > num_streams:
        # Threads' heaps give large activations back after each call (docs/onednn.md).
        keep_tensor_memory()
    pool = corestream.CPUPool(core_ids)
    module = corestream.MultiStreamModule(frozen, num_streams, pool)
    inputs = example_inputs(model, batch=batch, dtype=dtype)
    with torch.inference_mode():
        for _ in range(3):
            module.warm_up(*inputs)
    if main_team == "after":
        use_main_team()
    return _timer(module, inputs)


def _timer(module: Callable[..., Any], inputs: Inputs) -> Measure:
    def measure(seconds: float) -> list[float]:
        with torch.inference_mode():
            return time_for(lambda: module(*inputs), seconds=seconds)

    return measure
