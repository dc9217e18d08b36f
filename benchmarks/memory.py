"""What more streams cost in memory, and what an idle executor costs in CPU time."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import corestream
from benchmarks.contest import Entrant, compete
from benchmarks.machine import core_ids
from benchmarks.measure import Effort, spread
from benchmarks.models import build, example_inputs, freeze, package, weight_bytes
from benchmarks.report import Report, Row, Target, figure
from benchmarks.subject import Subject

NAME = "memory"
TITLE = "memory of a stream per core against one stream, and CPU time of idle streams"

EXTRA_PERCENT = 10.0
IDLE_PERCENT = 1.0
IDLE_SECONDS = 5.0

# (model, file): the activations of one sequence are far smaller than a tenth of the weights.
ROWS = (("BERT-base", "bert.pt"), ("MiniLM", "minilm.pt"), ("MiniLM", "minilm.pt2"))

MIB = 1 << 20


def lowered_file(model: str, path: str) -> Callable[[], int]:
    """Subject that writes the lowered model: the measured process must not have traced it.

    What tracing has allocated and freed would hide what the streams allocate.
    """

    def measure() -> int:
        module = build(model, dtype="fp32")
        inputs = example_inputs(model, batch=1, dtype="fp32")
        if path.endswith(".pt2"):
            package(module, inputs, path=Path(path), num_threads=1)
        else:
            torch.jit.save(freeze(module, inputs), path)
        return weight_bytes(module)

    return measure


def resident(model: str, *, path: str, num_streams: int) -> Callable[[], int]:
    """Subject that loads the model, runs it on every stream and says how much memory that took."""
    torch.jit.enable_onednn_fusion(True)
    inputs = example_inputs(model, batch=1, dtype="fp32")
    load: Any = torch.jit.load
    before = _resident_bytes()
    lowered: Any = path if path.endswith(".pt2") else load(path)
    pool = corestream.CPUPool(core_ids()[:num_streams])
    task = corestream.Task(lowered, corestream.TaskExecutor(pool, num_streams))
    with torch.inference_mode():
        for _ in range(5):
            task.warm_up(*inputs)
    used = _resident_bytes() - before
    return lambda: used


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def idle_executor() -> Callable[[float], float]:
    """Subject with an executor that has worked: the share of a core it takes while idle."""
    ids = core_ids()
    executor = corestream.TaskExecutor(corestream.CPUPool(ids), len(ids))
    team = corestream.TaskExecutor(corestream.CPUPool(ids), 1)

    def measure(seconds: float) -> float:
        for streams in (executor, team):
            streams.submit(torch.ones(1 << 20).sigmoid).get()
        wall, busy = time.perf_counter(), time.process_time()
        time.sleep(seconds)
        return (time.process_time() - busy) / (time.perf_counter() - wall)

    return measure


def _memory_row(model: str, *, path: Path, effort: Effort) -> Row:
    with Subject("benchmarks.memory:lowered_file", model=model, path=str(path)) as compiler:
        weights = compiler.measure()
    arguments = {"model": model, "path": str(path)}
    entrants = {
        str(count): Entrant("benchmarks.memory:resident", arguments | {"num_streams": count})
        for count in (1, len(core_ids()))
    }
    answers = compete(entrants, effort=replace(effort, rounds=1), request={})
    one, many = answers["1"], answers[str(len(core_ids()))]
    extra = [100 * (more - less) / weights for more, less in zip(many, one, strict=True)]
    notes = {
        "weights": f"{weights / MIB:.0f} MiB",
        "1 stream": f"{figure(spread(one).median / MIB)} MiB",
        f"{len(core_ids())} streams": f"{figure(spread(many).median / MIB)} MiB",
    }
    kind = "AOTInductor" if path.suffix == ".pt2" else "TorchScript"
    name = f"{model} fp32 {kind}: more memory, of the weights"
    return Row(name, spread(extra), "%", Target(at_most=EXTRA_PERCENT), notes)


def _idle_row(effort: Effort) -> Row:
    seconds = effort.seconds if effort.is_quick else IDLE_SECONDS
    entrant = Entrant("benchmarks.memory:idle_executor")
    once = replace(effort, processes=1)
    shares = compete({"idle": entrant}, effort=once, request={"seconds": seconds})["idle"]
    value = spread(shares).scaled(100)
    return Row("two idle executors: CPU time, of a core", value, "%", Target(at_most=IDLE_PERCENT))


def run(effort: Effort) -> Report:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model, file_name in ROWS:
            rows.append(_memory_row(model, path=Path(folder) / file_name, effort=effort))
    rows.append(_idle_row(effort))
    remarks = (
        "Memory: growth of the process's resident memory from before the model is loaded to "
        "after five calls per stream, one sequence each, so that activations are small."
    )
    return Report(NAME, TITLE, rows, [remarks])
