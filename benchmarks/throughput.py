"""Two streams of one core each against one instance on two threads, and against one stream."""

from __future__ import annotations

import statistics

from benchmarks.contest import Entrant, compete, machine_peak, medians
from benchmarks.machine import core_ids
from benchmarks.measure import Effort, ratios, spread
from benchmarks.models import count_flops
from benchmarks.report import Report, Row, Target, show_spread

NAME = "throughput"
TITLE = "2 streams × 1 core against 1 instance on 2 threads, batch 16, frozen TorchScript + oneDNN"

BATCH = 16

# (model, dtype, at least this ratio)
ROWS = (
    ("ResNet-50", "fp32", 1.05),
    ("ResNet-50", "bf16", 1.0),
    ("MobileNetV2", "fp32", 1.05),
    ("MobileNetV2", "bf16", 1.3),
)


def _row(model: str, *, dtype: str, target: float, effort: Effort) -> Row:
    cores = core_ids()
    common = {"model": model, "batch": BATCH, "dtype": dtype}
    stream_arguments = {"core_ids": cores, "num_streams": len(cores), "main_team": "before"}
    entrants = {
        "streams": Entrant("benchmarks.models_on_cores:streams", common | stream_arguments),
        "direct": Entrant(
            "benchmarks.models_on_cores:direct", common | {"num_threads": len(cores)}
        ),
    }
    times = {
        name: medians(turns)
        for name, turns in compete(
            entrants, effort=effort, request={"seconds": effort.seconds}
        ).items()
    }
    rates = {name: [BATCH / seconds for seconds in turns] for name, turns in times.items()}
    peak = machine_peak(dtype, effort=effort)
    share = count_flops(model) * statistics.median(rates["streams"]) / peak
    notes = {
        "2 streams": show_spread(spread(rates["streams"]), "img/s"),
        "2 threads": show_spread(spread(rates["direct"]), "img/s"),
        "streams' share of the matrix peak": f"{share:.0%} of {peak / 1e9:.0f} GFLOP/s",
    }
    value = ratios(times["direct"], times["streams"])
    return Row(f"{model} {dtype}", value, "×", Target(at_least=target), notes)


def _package_row(effort: Effort) -> Row:
    entrant = Entrant("benchmarks.package_streams:one_and_many", {"core_ids": core_ids()})
    turns = compete({"package": entrant}, effort=effort, request={"seconds": effort.seconds})[
        "package"
    ]
    one, many = ([turn[name] for turn in turns] for name in ("one", "many"))
    notes = {
        "2 streams": show_spread(spread(many), "seq/s"),
        "1 stream": show_spread(spread(one), "seq/s"),
    }
    name = "AOTInductor package, MiniLM fp32 8 × 32"
    return Row(name, ratios(many, one), "×", Target(at_least=1.9), notes)


def run(effort: Effort) -> Report:
    rows = [_row(model, dtype=dtype, target=target, effort=effort) for model, dtype, target in ROWS]
    rows.append(_package_row(effort))
    return Report(NAME, TITLE, rows)
