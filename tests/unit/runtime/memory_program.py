"""Prints what streams do to the resident memory of a process of its own, in bytes.

`weights`: the weights' size, and how much five streams take beyond what one took.
`shapes`: how much 10,000 calls with 50 shapes take, once every shape has been seen.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from resource import getpagesize

import torch
from torch import nn

import corestream
from corestream import _native
from corestream.cpu import CPUSet
from corestream.cpu.override import override_allowed

NUM_LAYERS, WIDTH = 12, 2048
NUM_SHAPES, NUM_CALLS = 50, 10_000


class Scale(nn.Module):
    def forward(self, x: torch.Tensor, extra: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sum": x + extra["y"], "product": x * extra["y"]}


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


def run_streams(model: torch.jit.ScriptModule, num_streams: int) -> int:
    """Memory while the streams are alive and have run."""
    streams = corestream.MultiStreamModule(
        model, num_streams, corestream.CPUPool(range(num_streams))
    )
    for _ in range(5):
        streams(torch.ones(4 * num_streams, WIDTH))
    memory = resident_bytes()
    streams.executor.shutdown()
    return memory


def weights() -> None:
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(NUM_LAYERS)]
    example = torch.ones(4, WIDTH)
    model = torch.jit.freeze(torch.jit.trace(nn.Sequential(*layers).eval(), example))
    with override_allowed(CPUSet(range(5))):
        _native.core.simulate_cpus(5)
        run_streams(model, 1)
        one = run_streams(model, 1)
        print(NUM_LAYERS * WIDTH * WIDTH * 4, run_streams(model, 5) - one)


def shapes() -> None:
    batches = [
        (torch.ones(1 + index % 7, 64 + index), {"y": torch.ones(1 + index % 7, 64 + index)})
        for index in range(NUM_SHAPES)
    ]
    pool = corestream.CPUPool()
    streams = corestream.MultiStreamModule(torch.jit.script(Scale()), "AUTO", pool)
    for call in range(NUM_CALLS // 4):
        streams(*batches[call % NUM_SHAPES])
    before = resident_bytes()
    for call in range(NUM_CALLS):
        streams(*batches[call % NUM_SHAPES])
    print(resident_bytes() - before)
    streams.executor.shutdown()


if __name__ == "__main__":
    with torch.no_grad():
        {"weights": weights, "shapes": shapes}[sys.argv[1]]()
