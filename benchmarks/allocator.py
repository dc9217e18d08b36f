"""``python -m benchmarks.allocator``: does keeping tensors' memory make models faster?

The same process runs the model on a stream per core in turns, with and without, so that nothing
else differs. CPU time counts for the ratio: it leaves out what other programs took.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

import corestream
from benchmarks.machine import core_ids
from benchmarks.measure import Effort, interleave, ratios
from benchmarks.models import freeze
from benchmarks.models_on_cores import in_ended_thread
from benchmarks.report import Report, Row, Target, figure, print_report, save_report
from benchmarks.zoo import build
from corestream.onednn import keep_tensor_memory, tensor_memory

NAME = "allocator"
TITLE = "a stream per core, fp32: CPU time of a call as torch has it over that with kept memory"

MODELS = ("MobileNetV2", "ShuffleNetV2")

# Images of a stream's part of a call. One costs no more than noise: the target is about that.
BATCHES = (8, 32)

LIMIT_BYTES = 2 << 30

Turn = dict[str, float]


def subject(model: str, *, batch: int) -> Callable[[int], Turn]:
    """A call of the model on one stream per core; the limit it is given holds while it measures."""
    ids = core_ids()
    image = torch.zeros(batch, 3, 224, 224).contiguous(memory_format=torch.channels_last)

    def make() -> Any:
        module: Any = build(model)
        return freeze(module.to(memory_format=torch.channels_last), (image,))

    streams = corestream.MultiStreamModule(in_ended_thread(make), len(ids), corestream.CPUPool(ids))
    images = image.repeat(len(ids), 1, 1, 1).contiguous(memory_format=torch.channels_last)

    def measure(limit_bytes: int, *, calls: int) -> Turn:
        keep_tensor_memory(limit_bytes)
        for _ in range(2):
            streams(images)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        cpu_times, wall_times = [], []
        for _ in range(calls):
            cpu, wall = time.process_time(), time.perf_counter()
            streams(images)
            cpu_times.append(time.process_time() - cpu)
            wall_times.append(time.perf_counter() - wall)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        kept = tensor_memory().kept_bytes
        keep_tensor_memory(0)
        return {
            "cpu": statistics.median(cpu_times),
            "wall": statistics.median(wall_times),
            "faults": faults / calls,
            "kept": kept,
        }

    def turn(limit_bytes: int) -> Turn:
        with torch.inference_mode():
            return measure(limit_bytes, calls=3)

    return turn


def _row(model: str, *, batch: int, effort: Effort) -> Row:
    turn = subject(model, batch=batch)
    for _ in range(2):
        turn(0)
    turns = interleave(
        {"stock": lambda: turn(0), "kept": lambda: turn(LIMIT_BYTES)},
        rounds=effort.rounds * effort.processes,
    )
    figures = {
        (name, key): [one[key] for one in turns[name]] for name in turns for key in turns[name][0]
    }
    wall = ratios(figures["stock", "wall"], figures["kept", "wall"])
    notes = {
        "wall time": f"{figure(wall.median)} ({figure(wall.p10)}–{figure(wall.p90)})",
        "faults a call": f"{statistics.median(figures['stock', 'faults']):.0f}",
        "kept": f"{statistics.median(figures['kept', 'faults']):.0f}",
        "MiB kept": f"{max(figures['kept', 'kept']) / (1 << 20):.0f}",
    }
    value = ratios(figures["stock", "cpu"], figures["kept", "cpu"])
    return Row(f"{model}, {batch} a stream", value, "×", Target(at_least=0.98), notes)


def run(effort: Effort) -> Report:
    batches = BATCHES[:1] if effort.is_quick else BATCHES
    rows = [_row(model, batch=batch, effort=effort) for batch in batches for model in MODELS]
    remarks = "Above 1: keeping is faster. Page faults: median of the turns, without and with."
    return Report(NAME, TITLE, rows, [remarks])


def main(arguments: list[str]) -> None:
    from benchmarks import machine
    from benchmarks.measure import FULL, QUICK

    parser = argparse.ArgumentParser(prog="python -m benchmarks.allocator", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only see that everything runs")
    effort = QUICK if parser.parse_args(arguments).quick else FULL
    report = run(effort)
    print_report(report)
    save_report(report, machine=machine.describe(), is_quick=effort.is_quick)


if __name__ == "__main__":
    main(sys.argv[1:])
