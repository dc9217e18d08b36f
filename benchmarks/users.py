"""A closed loop of users, one sentence at a time: stock eager torch against corestream."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.contest import Entrant, compete
from benchmarks.measure import Effort, Spread, percentile, ratios, spread
from benchmarks.report import Report, Row, Target, figure

NAME = "users"
TITLE = "MiniLM, one sentence of 32 tokens a request, closed loop"

USERS = (1, 2, 6, 16)

STOCK = "stock eager fp32"
_STREAMS = "benchmarks.user_loops:streams"

ENTRANTS = {
    STOCK: Entrant("benchmarks.user_loops:stock", {"dtype": "fp32"}),
    "1 core a stream, fp32 TorchScript": Entrant(
        _STREAMS, {"dtype": "fp32", "lowering": "torchscript", "cores_per_stream": 1}
    ),
    "1 core a stream, fp32 AOTInductor": Entrant(
        _STREAMS, {"dtype": "fp32", "lowering": "aoti", "cores_per_stream": 1}
    ),
    "2 cores a stream, fp32 TorchScript": Entrant(
        _STREAMS, {"dtype": "fp32", "lowering": "torchscript", "cores_per_stream": 2}
    ),
    "1 core a stream, bf16 TorchScript": Entrant(
        _STREAMS, {"dtype": "bf16", "lowering": "torchscript", "cores_per_stream": 1}
    ),
}
SAME_NUMBERS = [name for name in ENTRANTS if "fp32" in name and name != STOCK]

# Rates at a plateau differ by noise: a fall is less than this of the rate for fewer users.
NO_FALL = 0.97


@dataclass(frozen=True, slots=True)
class Loop:
    """What one entrant did for one number of users: one entry per turn."""

    rates: list[float]
    p50s: list[float]
    p99s: list[float]

    @classmethod
    def of(cls, turns: list[dict[str, Any]]) -> Loop:
        latencies = [turn["latencies"] for turn in turns]
        return cls(
            [
                len(samples) / turn["elapsed"]
                for samples, turn in zip(latencies, turns, strict=True)
            ],
            [percentile(samples, 50) for samples in latencies],
            [percentile(samples, 99) for samples in latencies],
        )


def _measure(effort: Effort) -> dict[tuple[str, int], Loop]:
    seconds = effort.seconds if effort.is_quick else 3 * effort.seconds  # a p99 needs samples
    loops = {}
    # Everybody's processes would take gigabytes and stand in one another's way: one generation.
    request = {"users": USERS, "seconds": seconds}
    answers = compete(ENTRANTS, effort=replace(effort, processes=1), request=request)
    for name, turns in answers.items():
        for index, users in enumerate(USERS):
            loops[name, users] = Loop.of([turn[index] for turn in turns])
    return loops


def _rate_rows(loops: dict[tuple[str, int], Loop]) -> list[Row]:
    rows = []
    for (name, users), loop in loops.items():
        gain = ratios(loop.rates, loops[STOCK, users].rates)
        notes = {
            "p50": f"{figure(statistics.median(loop.p50s) * 1e3)} ms",
            "p99": f"{figure(statistics.median(loop.p99s) * 1e3)} ms",
            "rate over stock's": f"{figure(gain.median)} ×",
        }
        rows.append(Row(f"{name}, users: {users}", spread(loop.rates), "requests/s", notes=notes))
    return rows


def _steepest_fall(loops: dict[tuple[str, int], Loop], name: str) -> Spread:
    """The smallest ratio of the rate to that for fewer users."""
    steps = [
        ratios(loops[name, more].rates, loops[name, fewer].rates)
        for fewer, more in itertools.pairwise(USERS)
    ]
    return min(steps, key=lambda step: step.median)


def _verdict_rows(loops: dict[tuple[str, int], Loop]) -> list[Row]:
    most = USERS[-1]
    best = max(SAME_NUMBERS, key=lambda name: statistics.median(loops[name, most].rates))
    gain = ratios(loops[best, most].rates, loops[STOCK, most].rates)
    wait = ratios(loops[best, most].p99s, loops[STOCK, most].p99s)
    at_most = f"{best}, users: {most}"
    return [
        Row(f"{at_most}: rate over stock's", gain, "×", Target(at_least=3)),
        Row(f"{at_most}: p99 over stock's", wait, "×", Target(at_most=1 / 3)),
        Row(
            f"{best}: rate over that of fewer users, smallest",
            _steepest_fall(loops, best),
            "×",
            Target(at_least=NO_FALL),
        ),
    ]


def run(effort: Effort) -> Report:
    loops = _measure(effort)
    remarks = (
        "Targets hold for the fastest entrant with stock's numbers (fp32); bf16 rounds weights "
        f"and activations. A rate falls if it is below {NO_FALL:g} of that for fewer users."
    )
    return Report(NAME, TITLE, [*_rate_rows(loops), *_verdict_rows(loops)], [remarks])
