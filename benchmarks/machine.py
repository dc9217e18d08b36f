"""The machine: what it is, how fast its cores can be at all, and how busy others keep it."""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import time_for
from benchmarks.models import DTYPES
from corestream.cpu.budget import cpu_budget
from corestream.cpu.pool import CPUPool
from corestream.cpu.topology import topology

# Of these the fastest counts: small ones stay in cache, large ones hide the overheads.
MATRIX_SIZES = (512, 1024, 2048)
COPY_BYTES = 256 << 20


def core_ids() -> list[int]:
    """The cores that everything runs on: `python -m benchmarks` leaves itself two of them."""
    return list(CPUPool().core_ids)


def describe() -> dict[str, object]:
    """What to know about the machine to read the figures."""
    machine, budget = topology(), cpu_budget()
    return {
        "cpu": _cpu_name(),
        "budget": budget.count,
        "budget_reasons": list(budget.reasons),
        "logical_cpus": len(machine.online),
        "cores": len(machine.cores),
        "governor": _governor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load_average": os.getloadavg()[0],
    }


def computes_bf16() -> bool:
    """Whether the CPU multiplies bf16 numbers, rather than converting them."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _governor() -> str | None:
    try:
        path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        return path.read_text().strip()
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class CPUTime:
    """Ticks of all CPUs since the machine started."""

    total: int
    stolen: int
    idle: int

    @classmethod
    def read(cls) -> CPUTime:
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        except OSError:
            return cls(0, 0, 0)
        ticks = [int(field) for field in fields]
        return cls(sum(ticks), ticks[7], ticks[3] + ticks[4])

    def stolen_since(self, start: CPUTime) -> float:
        """The share that the hypervisor gave to others since `start`."""
        return (self.stolen - start.stolen) / max(1, self.total - start.total)

    def lost_since(self, start: CPUTime, *, own_ticks: int) -> float:
        """The share that the hypervisor and other processes took, if ours took `own_ticks`."""
        total = self.total - start.total
        return max(0, total - (self.idle - start.idle) - own_ticks) / max(1, total)


def onednn_product(left: Tensor, right: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return product


# fp32 products go to MKL, oneDNN's linear layers do not: the better of the two counts.
PRODUCTS = (torch.matmul, onednn_product)


def matrix_peak(dtype: str, *, seconds: float) -> float:
    """Floating point operations per second of the fastest square matrix product."""
    best = 0.0
    for size in MATRIX_SIZES:
        left, right = (torch.randn(size, size).to(DTYPES[dtype]) for _ in range(2))
        for product in PRODUCTS:
            shortest = _fastest(functools.partial(product, left, right), seconds)
            best = max(best, 2 * size**3 / shortest)
    return best


def copy_peak(*, seconds: float) -> float:
    """Bytes per second that a large copy reads and writes."""
    source = torch.ones(COPY_BYTES // 4)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / _fastest(functools.partial(target.copy_, source), seconds)


def _fastest(call: Callable[[], object], seconds: float) -> float:
    return min(time_for(call, seconds=seconds))


def peak_subject(num_threads: int) -> Callable[..., dict[str, float]]:
    """For benchmarks.subject: the peaks, on `num_threads` threads."""
    torch.set_num_threads(num_threads)

    def measure(kinds: list[str], seconds: float) -> dict[str, float]:
        share = seconds / (2 * len(MATRIX_SIZES) * len(kinds))
        peaks = {kind: matrix_peak(kind, seconds=share) for kind in kinds if kind in DTYPES}
        if "copy" in kinds:
            peaks["copy"] = copy_peak(seconds=share)
        return peaks

    return measure


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def summary(description: dict[str, Any]) -> str:
    return (
        f"{description['cpu']}, {description['budget']} CPUs to use, kernel "
        f"{description['kernel']}, torch {description['torch']} ({description['capability']}), "
        f"load {description['load_average']:.2f}"
    )
