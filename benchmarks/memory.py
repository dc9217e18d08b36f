"""What more streams cost in memory, and what an idle executor costs in CPU time."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Mapping
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
from corestream import _native
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.override import override_allowed

NAME = "memory"
TITLE = "memory of a stream per core against one stream, and CPU time of idle streams"

EXTRA_PERCENT = 10.0
IDLE_PERCENT = 1.0
IDLE_SECONDS = 5.0

# (model, file): the activations of one sequence are far smaller than a tenth of the weights.
ROWS = (("BERT-base", "bert.pt"), ("MiniLM", "minilm.pt"), ("MiniLM", "minilm.pt2"))

# Convolutions' weights are packed, attention's matrix products take them as they are.
TEAM_SIZE_ROWS = (("BERT-base", "bert.pt"), ("ResNet-50", "resnet50.pt"))

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


def resident(model: str, *, path: str, num_cores: int, num_streams: int) -> Callable[[], int]:
    """Subject that loads the model, runs it on every stream and says how much memory that took.

    With more cores than there are, the masks are pretended; teams have the size that they would.
    """
    if num_cores > len(core_ids()):
        _native.core.simulate_cpus(num_cores)
        with override_allowed(CPUSet(range(num_cores))):
            pool = corestream.CPUPool()
    else:
        pool = corestream.CPUPool(core_ids()[:num_cores])
    torch.jit.enable_onednn_fusion(True)
    inputs = example_inputs(model, batch=1, dtype="fp32")
    load: Any = torch.jit.load
    before = _resident_bytes()
    lowered: Any = path if path.endswith(".pt2") else load(path)
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


def _used(
    model: str, *, path: Path, layouts: Mapping[str, tuple[int, int]], effort: Effort
) -> tuple[int, dict[str, list[int]]]:
    """Bytes of the model's weights, and of what a process of each (cores, streams) takes."""
    with Subject("benchmarks.memory:lowered_file", model=model, path=str(path)) as compiler:
        weights = compiler.measure()
    entrants = {
        name: Entrant(
            "benchmarks.memory:resident",
            {
                "model": model,
                "path": str(path),
                "num_cores": num_cores,
                "num_streams": num_streams,
            },
        )
        for name, (num_cores, num_streams) in layouts.items()
    }
    return weights, compete(entrants, effort=replace(effort, rounds=1), request={})


def _row(
    name: str, *, weights: int, used: Mapping[str, list[int]], target: Target | None = None
) -> Row:
    """What the second layout takes more than the first, of the weights."""
    less, more = used.values()
    extra = [100 * (bigger - smaller) / weights for bigger, smaller in zip(more, less, strict=True)]
    notes = {"weights": f"{weights / MIB:.0f} MiB"}
    notes |= {layout: f"{figure(spread(sizes).median / MIB)} MiB" for layout, sizes in used.items()}
    return Row(name, spread(extra), "%", target, notes)


def _memory_row(model: str, *, path: Path, effort: Effort) -> Row:
    count = len(core_ids())
    layouts = {"1 stream": (1, 1), f"{count} streams": (count, count)}
    weights, used = _used(model, path=path, layouts=layouts, effort=effort)
    kind = "AOTInductor" if path.suffix == ".pt2" else "TorchScript"
    name = f"{model} fp32 {kind}: more memory, of the weights"
    return _row(name, weights=weights, used=used, target=Target(at_most=EXTRA_PERCENT))


def _team_size_row(model: str, *, path: Path, effort: Effort) -> Row:
    layouts = {"teams of 2 and 2": (4, 2), "teams of 2 and 1": (3, 2)}
    weights, used = _used(model, path=path, layouts=layouts, effort=effort)
    return _row(f"{model} fp32 TorchScript: a second team size", weights=weights, used=used)


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
        for model, file_name in TEAM_SIZE_ROWS:
            rows.append(_team_size_row(model, path=Path(folder) / file_name, effort=effort))
    rows.append(_idle_row(effort))
    remarks = (
        "Memory: growth of the process's resident memory from before the model is loaded to "
        "after five calls per stream, one item each, so that activations are small. A pool whose "
        "cores the streams do not share out evenly has two team sizes."
    )
    return Report(NAME, TITLE, rows, [remarks])
