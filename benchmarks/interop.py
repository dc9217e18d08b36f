"""Two branches of a model, side by side: torch's inter-op pool against streams."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

import corestream
from benchmarks.contest import Entrant, compete, medians
from benchmarks.machine import core_ids
from benchmarks.measure import Effort, ratios, spread, time_for
from benchmarks.models_on_cores import in_ended_thread
from benchmarks.report import Report, Row, Target, show_spread

NAME = "interop"
TITLE = "x·w_y + fork(x·w_z), as PyTorch's page on CPU threading has it, 2 cores"

# Rows of x, its width, and how many threads call at a time. A product of 64 rows takes some 100 µs,
# so that starting work counts; one of 512 takes milliseconds on all cores, however it is started.
CASES = {
    "64 × 512": (64, 512, 1),
    "512 × 1024": (512, 1024, 1),
    "64 × 512, 4 callers": (64, 512, 4),
}

STOCK = "stock inter-op pool, 1 intra-op thread"

WAYS: dict[str, dict[str, Any]] = {
    STOCK: {"way": "direct", "num_threads": 1},
    "stock inter-op pool, 2 intra-op threads": {"way": "direct", "num_threads": 2},
    "no fork, 2 intra-op threads": {"way": "plain", "num_threads": 2},
    "pinned streams": {"way": "task", "num_threads": None},
    "MultiStreamModule": {"way": "multi_stream", "num_threads": None},
}

# Not slower: by so much two measurements of the same thing differ here. Several callers fill the
# streams by themselves; to split their calls as well only costs.
NOT_SLOWER = Target(at_most=1.05)
TARGETS = {
    (case, way): NOT_SLOWER
    for case, (_, _, callers) in CASES.items()
    for way in ("pinned streams", "MultiStreamModule")
    if callers == 1 or way == "pinned streams"
}

Measure = Callable[[float], dict[str, list[float]]]


class Branches(nn.Module):
    """Two products and their sum, one after the other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w_y = nn.Parameter(torch.rand(width, width) / width)
        self.w_z = nn.Parameter(torch.rand(width, width) / width)

    def compute_z(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.w_z)

    def forward(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.w_y) + self.compute_z(x)


class ForkedBranches(Branches):
    """The second product is forked; where it runs is up to who calls the model."""

    def forward(self, x: Tensor) -> Tensor:
        z = torch.jit.fork(self.compute_z, x)
        y = torch.mm(x, self.w_y)
        return y + torch.jit.wait(z)


def subject(way: str, num_threads: int | None, cores: list[int]) -> Measure:
    """For benchmarks.subject: times the calls of each case, in one of the ways.

    Args:
        way: "direct" calls on the main thread, "plain" the same without the fork, "task" or
            "multi_stream".
        num_threads: Intra-op threads of direct calls.
        cores: The cores of the streams.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    calls = {name: _call(way, case[:2], cores) for name, case in CASES.items()}

    def measure(seconds: float) -> dict[str, list[float]]:
        return {
            name: _time(call, callers=CASES[name][2], seconds=seconds)
            for name, call in calls.items()
        }

    return measure


def _time(call: Callable[[], object], *, callers: int, seconds: float) -> list[float]:
    """Seconds of each call; of several callers, how long it takes from answer to answer."""
    if callers == 1:
        with torch.inference_mode():
            return time_for(call, seconds=seconds)
    start = threading.Barrier(callers)

    def caller(_: int) -> list[float]:
        start.wait()
        with torch.inference_mode():
            return time_for(call, seconds=seconds)

    with ThreadPoolExecutor(callers) as threads:
        samples = list(threads.map(caller, range(callers)))
    return [1 / sum(1 / statistics.fmean(times) for times in samples)]


def _call(way: str, size: tuple[int, int], cores: list[int]) -> Callable[[], object]:
    rows, width = size
    x = torch.rand(rows, width)
    kind = ForkedBranches if way in ("direct", "task") else Branches
    pool = corestream.CPUPool(cores)
    model = in_ended_thread(lambda: torch.jit.freeze(torch.jit.script(kind(width).eval())))
    if way == "task":
        task = corestream.Task(model, corestream.TaskExecutor(pool, len(cores)))
        with torch.inference_mode():
            task.warm_up(x)
        return lambda: task(x).get()
    if way == "multi_stream":
        module = corestream.MultiStreamModule(model, len(cores), pool)
        with torch.inference_mode():
            module.warm_up(x)
        return lambda: module(x)
    return lambda: model(x)


def run(effort: Effort) -> Report:
    cores = core_ids()
    entrants = {
        name: Entrant("benchmarks.interop:subject", {**arguments, "cores": cores})
        for name, arguments in WAYS.items()
    }
    answers = compete(entrants, effort=effort, request={"seconds": effort.seconds / 5})
    rows = []
    for case in CASES:
        times = {name: medians([turn[case] for turn in turns]) for name, turns in answers.items()}
        for name in WAYS:
            notes = {"call": show_spread(spread(times[name]).scaled(1e6), "µs")}
            value = ratios(times[name], times[STOCK])
            rows.append(Row(f"{case}: {name}", value, "×", TARGETS.get((case, name)), notes))
    return Report(NAME, TITLE, rows, [f"The ratio is to “{STOCK}”, turn by turn; less is better."])
