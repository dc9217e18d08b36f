"""Prints, as shares of the model, what optimizing 200 MB of linear layers takes at its peak."""

from __future__ import annotations

import resource
import sys

import torch
from torch import nn

from corestream.optimization import optimize

NUM_LAYERS, WIDTH = 12, 2048


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    torch.set_num_threads(1)
    optimize(nn.Sequential(nn.Linear(64, 64)).eval())  # oneDNN's own memory, once
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(NUM_LAYERS))).eval()
    size = sum(parameter.nbytes for parameter in model.parameters())
    before = peak_bytes()
    fast = optimize(model, inplace=sys.argv[1] == "inplace")
    extra = peak_bytes() - before
    with torch.no_grad():
        fast(torch.ones(1, WIDTH))
    print(extra / size, (peak_bytes() - before) / size)


if __name__ == "__main__":
    main()
