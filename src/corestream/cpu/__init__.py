"""What CPUs there are and which of them are ours. Never loads torch.

`topology` reads the machine, `allowed_cpus` and `cpu_budget` say what this process may use of
it, `CPUPool` reserves CPUs for one purpose. Importing this package captures the start-up
affinity mask, so import it before anything pins a thread.
"""

from __future__ import annotations

from corestream.cpu.allowed import allowed_cpus, startup_affinity
from corestream.cpu.budget import CPUBudget, cpu_budget
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.machine import (
    Cache,
    Core,
    CoreType,
    L3Domain,
    LogicalCPU,
    NUMANode,
    Package,
    Topology,
)
from corestream.cpu.pool import CPUPool, get_core_list_of_node_id
from corestream.cpu.topology import topology

__all__ = [
    "CPUBudget",
    "CPUPool",
    "CPUSet",
    "Cache",
    "Core",
    "CoreType",
    "L3Domain",
    "LogicalCPU",
    "NUMANode",
    "Package",
    "Topology",
    "allowed_cpus",
    "cpu_budget",
    "get_core_list_of_node_id",
    "startup_affinity",
    "topology",
]
