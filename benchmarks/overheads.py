"""What corestream costs beside the model: a call, a task, pin, the import; the floor under them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

import corestream
from benchmarks.floor import futex_round_trips
from benchmarks.measure import Effort, Spread, interleave, spread, time_calls
from benchmarks.report import Report, Row, Target, show_spread

NAME = "overheads"
TITLE = "time of a call around a trivial model, and of the import"


class Identity(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class PlusOne(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class Nested(torch.nn.Module):
    def forward(
        self, words: dict[str, Tensor], rest: tuple[Tensor, list[Tensor]]
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        return words["ids"], {"mask": [words["mask"]], "rest": [rest[0], rest[1][0]]}


def _script(module: torch.nn.Module) -> torch.jit.ScriptModule:
    frozen: torch.jit.ScriptModule = torch.jit.freeze(torch.jit.script(module.eval()))
    return frozen


Calls = dict[str, Callable[[], object]]

# (name, target in µs, what IPEX 2.8 took on another machine)
ROWS = (
    ("MultiStreamModule, 2 streams, identity", 25.0, "74"),
    ("MultiStreamModule, 2 streams, nested containers", 60.0, ""),
    ("Task, identity: submit and get", 6.0, "7.6"),
    ("Task, x + 1: submit and get", None, ""),
    ("Task, identity, any of 2 streams", None, ""),
    ("direct call, identity", None, ""),
    ("direct call, x + 1", None, ""),
    ("pin: enter and leave", 8.0, "13.3"),
)


def _multi_stream_calls(pool: corestream.CPUPool, stack: ExitStack) -> list[Callable[[], object]]:
    x = torch.ones(4, 4)
    words, rest = {"ids": x, "mask": x}, (x, [x])
    modules = []
    for model in (Identity(), Nested()):
        streams = corestream.MultiStreamModule(_script(model), min(2, len(pool)), pool)
        stack.callback(streams.executor.shutdown)
        modules.append(streams)
    flat, nested = modules
    return [lambda: flat(x), lambda: nested(words, rest)]


@contextmanager
def _calls(pool: corestream.CPUPool) -> Iterator[Calls]:
    x = torch.ones(4, 4)
    identity, plus_one = _script(Identity()), _script(PlusOne())
    with ExitStack() as stack:
        # One stream on the last core; the kernel finds the caller another, where there is one.
        single = stack.enter_context(corestream.TaskExecutor(pool.slice(len(pool) - 1, len(pool))))
        double = stack.enter_context(corestream.TaskExecutor(pool, min(2, len(pool))))
        task, task_plus = corestream.Task(identity, single), corestream.Task(plus_one, single)
        task_any = corestream.Task(identity, double)
        scope = corestream.pin(pool)

        def enter_and_leave() -> None:
            with scope:
                pass

        functions = [
            *_multi_stream_calls(pool, stack),
            lambda: task(x).get(),
            lambda: task_plus(x).get(),
            lambda: task_any(x).get(),
            lambda: identity(x),
            lambda: plus_one(x),
            enter_and_leave,
        ]
        yield {name: call for (name, _, _), call in zip(ROWS, functions, strict=True)}


# In a process of its own: seconds of `import torch`, and of what corestream loads beside it.
IMPORTS = """
import time
start = time.perf_counter()
import torch
loaded = time.perf_counter()
import corestream
corestream.MultiStreamModule
print(loaded - start, time.perf_counter() - loaded)
"""


def _import_row(effort: Effort) -> Row:
    """Both in one process: two processes' imports of torch differ by more than ours takes."""
    command = [sys.executable, "-W", "ignore", "-c", IMPORTS]
    answers = [
        [float(text) for text in subprocess.check_output(command, text=True).split()]
        for _ in range(1 + effort.processes * effort.rounds)
    ]
    # The first one finds the disk's cache cold.
    torch_times, above = ([1e3 * one[place] for one in answers[1:]] for place in (0, 1))
    notes = {"import torch": show_spread(spread(torch_times), "ms")}
    name = "import of corestream and its runtime, above torch"
    return Row(name, spread(above), "ms", Target(at_most=50.0), notes)


def _floor_rows(pool: corestream.CPUPool, effort: Effort) -> list[Row]:
    first, last = pool.core_ids[0], pool.core_ids[-1]
    pairs = {"same CPU": (first, first)}
    if first != last:
        pairs[f"CPU {first} to {last}"] = (first, last)
    floors = futex_round_trips(list(pairs.values()), calls=10 * effort.calls)
    return [
        Row(f"floor: futex wake-up and back, {where}", floor.scaled(1e6), "µs")
        for where, floor in zip(pairs, floors, strict=False)
    ]


def run(effort: Effort) -> Report:
    pool = corestream.CPUPool()
    samples: dict[str, list[float]] = {name: [] for name, _, _ in ROWS}
    with torch.inference_mode(), _calls(pool) as calls:
        turns = {
            name: lambda call=call: time_calls(call, calls=effort.calls)
            for name, call in calls.items()
        }
        for name, rounds in interleave(turns, rounds=effort.rounds).items():
            samples[name] = [sample for turn in rounds for sample in turn]
    rows = []
    for name, target, ipex in ROWS:
        value: Spread = spread(samples[name]).scaled(1e6)
        limit = Target(at_most=target) if target else None
        rows.append(Row(name, value, "µs", limit, {"IPEX 2.8": f"{ipex} µs" if ipex else ""}))
    rows.append(_import_row(effort))
    rows += _floor_rows(pool, effort)
    remarks = (
        "IPEX's figures are of another machine. A hand-over to a sleeping thread cannot be "
        "faster than half the floor's round trip; one that is found spinning can."
    )
    return Report(NAME, TITLE, rows, [remarks])
