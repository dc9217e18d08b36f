"""Models of short layers at batch 1, by torch's interpreter and by captured graphs, in turns."""

from __future__ import annotations

import statistics
from typing import Any

import torch

import corestream
from benchmarks import zoo
from benchmarks.machine import core_ids
from benchmarks.measure import Effort, ratios, time_in_turns
from benchmarks.report import Report, Row, Target
from corestream.lowering.backend import LoweringRequest
from corestream.lowering.torchscript import TorchScriptBackend
from corestream.measure.inputs import ModelInputs

NAME = "captures"
TITLE = "The interpreter's time over a captured graph's, batch 1, one stream of all cores"

MODELS = ("MobileNetV2", "SqueezeNet", "ShuffleNetV2", "DLRM")
# Not slower: a capture that is gets dropped.
TARGET = Target(at_least=0.98)
_WARM_UP = 20


class _Source:
    """What a Task takes in a module's place."""

    def __init__(self, callee: Any) -> None:
        self._callee = callee

    def callee_source(self) -> Any:
        return self._callee


def _row(name: str, *, cores: list[int], effort: Effort) -> Row:
    inputs = ModelInputs(zoo.example_inputs(name, batch=1), {})
    request = LoweringRequest(
        model=zoo.build(name),
        inputs=inputs,
        dtype=None,
        team_size=len(cores),
        num_streams=1,
        batch_sizes=(1,),
        dynamic_batch=True,
    )
    callee = TorchScriptBackend(own_layers=True).build(request).callee_source()
    task = corestream.Task(_Source(callee), corestream.CPUPool(cores))

    def call(captures: str) -> None:
        callee.captures = captures
        with torch.inference_mode():
            task(*inputs.args).get()

    for captures in ("never", "always"):
        for _ in range(_WARM_UP):
            call(captures)
    calls = {"interpreter": lambda: call("never"), "captured": lambda: call("always")}
    turns = time_in_turns(calls, effort=effort)
    notes = {way: f"{statistics.median(taken) * 1e6:.0f} us" for way, taken in turns.items()}
    notes["memory held"] = f"{callee.captured_bytes / 1e6:.1f} MB"
    return Row(name, ratios(turns["interpreter"], turns["captured"]), "×", TARGET, notes)


def run(effort: Effort) -> Report:
    cores, rows, notes = core_ids(), [], [f"{len(core_ids())} cores."]
    for name in MODELS:
        try:
            rows.append(_row(name, cores=cores, effort=effort))
        except ModuleNotFoundError as error:
            notes.append(f"{name}: {error}")
    return Report(NAME, TITLE, rows, notes)
