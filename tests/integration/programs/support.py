"""What the programs of this folder share: work for torch, models, masks, forked children."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# A child that hangs prints its stacks and exits with 1.
CHILD_LIMIT_S = 30.0

INPUT = torch.arange(24.0).reshape(8, 3)
TEAM_SIZE = 2


class Affine(torch.nn.Module):
    """x to 2 x + 1, over all threads of a team when x is large."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 + 1


def scripted() -> torch.jit.ScriptModule:
    return torch.jit.freeze(torch.jit.script(Affine().eval()))


def use_torch_in_parallel() -> float:
    """Makes the calling thread an OpenMP team, of two even on a machine of one CPU."""
    torch.set_num_threads(TEAM_SIZE)
    x = torch.zeros(300_000).add_(1).sigmoid_()
    return float((x * torch.ones(400, 400).mm(torch.ones(400, 400)).mean()).mean())


def mask() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def in_new_thread(function: Callable[[], Any]) -> Any:
    values: list[Any] = []
    thread = threading.Thread(target=lambda: values.append(function()))
    thread.start()
    thread.join()
    return values[0]


def os_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def wait_until(condition: Callable[[], bool]) -> None:
    """Yields until it holds; the program's own limit ends what never does."""
    while not condition():
        os.sched_yield()


def in_forked_child(
    action: Callable[[], Any], ending: Callable[[], Any] = sys.exit
) -> dict[str, Any] | None:
    """Forks; the child does `action`, reports its value and ends, by default as a program does.

    Returns, in the parent, the child's exit code, its value and the mask that it began with.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(CHILD_LIMIT_S, exit=True)
        started_with = mask()
        report = {"mask": started_with, "value": action()}
        os.write(writer, json.dumps(report).encode())
        os.close(writer)
        return ending()
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return {"exit_code": os.waitstatus_to_exitcode(status), **json.loads(text or "{}")}


def report(values: Any) -> None:
    """Prints what the test reads."""
    print(json.dumps(values))
