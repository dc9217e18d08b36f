"""Machines to plan for: the synthetic ones, read once each."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from corestream.cpu import CPUBudget, CPUSet, Topology, cpu_budget, topology
from corestream.launch import LaunchOptions, LaunchPlan, make_plan
from tests.topologies.builder import build
from tests.topologies.machines import MACHINES


@dataclass(frozen=True)
class Known:
    name: str
    topology: Topology
    budget: CPUBudget

    def __repr__(self) -> str:
        return f"<{self.name}, budget of {self.budget.count}>"


@cache
def machine(name: str) -> Known:
    # Thousands of small files: in memory, where there is such a folder.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        root = build(Path(folder), MACHINES[name])
        return Known(name, topology(root), cpu_budget(root))


def flat(num_cpus: int) -> Known:
    cpus = CPUSet(range(num_cpus))
    budget = CPUBudget(count=num_cpus, allowed=cpus, quota=None, reasons=("all",))
    return Known(f"{num_cpus} CPUs", Topology.flat(cpus), budget)


def with_quota(known: Known, count: int) -> Known:
    reasons = (f"CPU budget: {count}, the quota",)
    budget = replace(known.budget, count=count, quota=float(count), reasons=reasons)
    return replace(known, budget=budget)


def plan_on(known: Known, environ: dict[str, str] | None = None, **asked) -> LaunchPlan:
    options = LaunchOptions(command=("serve.py",), **asked)
    return make_plan(options, topology=known.topology, budget=known.budget, environ=environ or {})


def cpus_of(plan: LaunchPlan) -> list[str]:
    """CPU lists of the instances."""
    return [instance["cpus"] for instance in plan.to_json()["instances"]]
