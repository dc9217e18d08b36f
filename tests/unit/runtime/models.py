"""Models that several test files run."""

from __future__ import annotations

import torch


class Projection(torch.nn.Module):
    """Keyword arguments, a nested output, 16 MiB of weights, about 10 ms of work an item."""

    size = 2048
    num_steps = 4

    def __init__(self):
        super().__init__()
        # Keeps the length of the items about the same from step to step.
        self.weight = torch.nn.Parameter(torch.randn(self.size, self.size) / self.size**0.5)

    def forward(self, x, *, options):
        for _ in range(self.num_steps):
            x = torch.relu(x @ self.weight) + x
            x = x / x.norm(dim=1, keepdim=True)
        y = x * options["scale"] + options["shift"]
        return {"y": y, "sums": {"rows": y.sum(1), "columns": [y.sum(0), y.amax(0)]}}
