"""A stream of two cores, one item at a time, against the best direct call on two threads."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.contest import Entrant, compete, machine_peak, medians
from benchmarks.machine import core_ids
from benchmarks.measure import Effort, ratios, spread
from benchmarks.models import count_flops
from benchmarks.report import Report, Row, Target, show_spread

NAME = "latency"
TITLE = "1 stream × 2 cores against the best direct call on 2 threads, batch 1"

MODELS = ("MobileNetV2", "ResNet-50", "BERT-base")
LIMIT = 1.05

# What a user can do for a direct call: leave its threads to the kernel, or have libgomp bind
# them. It reads this when it is loaded, so it must be in the environment.
BOUND = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}


def _entrants(model: str, dtype: str) -> dict[str, Entrant]:
    cores = core_ids()
    common: dict[str, Any] = {"model": model, "batch": 1, "dtype": dtype}
    direct = common | {"num_threads": len(cores)}
    stream = common | {"core_ids": cores, "num_streams": 1, "main_team": "before"}
    return {
        "stream": Entrant("benchmarks.models_on_cores:streams", stream),
        "direct": Entrant("benchmarks.models_on_cores:direct", direct),
        "direct, bound": Entrant("benchmarks.models_on_cores:direct", direct, BOUND),
    }


def _row(model: str, *, dtype: str, effort: Effort) -> Row:
    answers = compete(_entrants(model, dtype), effort=effort, request={"seconds": effort.seconds})
    times = {name: medians(turns) for name, turns in answers.items()}
    best = min(("direct", "direct, bound"), key=lambda name: statistics.median(times[name]))
    peak = machine_peak(dtype, effort=effort)
    share = count_flops(model) / statistics.median(times["stream"]) / peak
    notes = {
        name: show_spread(spread(seconds).scaled(1e3), "ms") for name, seconds in times.items()
    }
    notes["stream's share of the matrix peak"] = f"{share:.0%} of {peak / 1e9:.0f} GFLOP/s"
    value = ratios(times["stream"], times[best])
    return Row(f"{model} {dtype}", value, "×", Target(at_most=LIMIT), notes)


def run(effort: Effort) -> Report:
    rows = [
        _row(model, dtype=dtype, effort=effort) for model in MODELS for dtype in ("fp32", "bf16")
    ]
    remarks = (
        "The stream's process traced the model and ran parallel regions on its main thread before. "
        "The ratio is to the faster of the two direct calls, round by round."
    )
    return Report(NAME, TITLE, rows, [remarks])
