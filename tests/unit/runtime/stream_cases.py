"""Models and machines for the tests of MultiStreamModule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from corestream import CPUPool, MultiStreamModule, _native, allowed_cpus
from corestream.cpu import CPUSet
from corestream.cpu.override import override_allowed


@contextmanager
def machine_of(num_cpus: int) -> Iterator[CPUPool]:
    """Pretends that there are `num_cpus` CPUs; pinning is recorded instead of done."""
    with override_allowed(CPUSet(range(num_cpus))):
        _native.core.simulate_cpus(num_cpus)
        try:
            yield CPUPool(range(num_cpus))
        finally:
            _native.core.simulate_cpus(None)


@contextmanager
def running(
    model: Any, num_streams: int | str, pool: CPUPool, **options: Any
) -> Iterator[MultiStreamModule]:
    """A MultiStreamModule whose threads end with the block."""
    streams = MultiStreamModule(model, num_streams, pool, **options)
    try:
        yield streams
    finally:
        streams.executor.shutdown()


@dataclass(frozen=True)
class Machine:
    """Where a number of streams is tried."""

    num_streams: int
    num_cpus: int
    is_real: bool

    def __str__(self) -> str:
        kind = "real" if self.is_real else "simulated"
        return f"{self.num_streams}-streams-{self.num_cpus}-{kind}-cpus"

    @contextmanager
    def run(self, model: Any, **options: Any) -> Iterator[MultiStreamModule]:
        if self.is_real and self.num_cpus <= len(allowed_cpus()):
            pool = CPUPool(list(allowed_cpus())[: self.num_cpus])
            with running(model, self.num_streams, pool, **options) as streams:
                yield streams
        else:
            with (
                machine_of(self.num_cpus) as pool,
                running(model, self.num_streams, pool, **options) as streams,
            ):
                yield streams


MACHINES = [
    Machine(num_streams=1, num_cpus=1, is_real=True),
    Machine(num_streams=1, num_cpus=2, is_real=True),
    Machine(num_streams=2, num_cpus=2, is_real=True),
    Machine(num_streams=2, num_cpus=5, is_real=False),
    Machine(num_streams=3, num_cpus=3, is_real=False),
    Machine(num_streams=5, num_cpus=6, is_real=False),
]


class Affine(nn.Module):
    """A linear layer with weights that differ in every element."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        with torch.no_grad():
            self.linear.weight.copy_(torch.arange(width * width).view(width, width) / width)
            self.linear.bias.copy_(torch.arange(width) - 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


class Weight(nn.Module):
    """Returns its weight, so that a test can see where it lies."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight


class FailsAbove(nn.Module):
    """Raises where an element exceeds the limit."""

    def forward(self, x: torch.Tensor, limit: float) -> torch.Tensor:
        if bool((x > limit).any()):
            raise ValueError("above the limit")
        return x + 1


class Meet(nn.Module):
    """Marks its seat and turns until all seats are taken; -1 if that does not happen."""

    def forward(self, seat: torch.Tensor, seats: torch.Tensor) -> torch.Tensor:
        seats.select(0, int(seat[0].item())).fill_(1)
        for _ in range(5_000_000):
            if bool(seats.all()):
                return seat
        return torch.full_like(seat, -1)


def scripted(module: nn.Module) -> torch.jit.ScriptModule:
    """The module as TorchScript, in eval mode."""
    return torch.jit.script(module.eval())


def whole_batch(items: int, *, width: int = 3) -> torch.Tensor:
    """Rows that all differ."""
    return torch.arange(items * width, dtype=torch.float32).view(items, width)
