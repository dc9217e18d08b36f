"""The topology and the CPU budget as plain data, for JSON."""

from __future__ import annotations

import os
from typing import Any

from corestream.cpu.budget import cpu_budget
from corestream.cpu.machine import Topology
from corestream.cpu.topology import topology


def describe(root: str | os.PathLike[str] = "/") -> dict[str, Any]:
    """Return what `python -m corestream.cpu` prints.

    Args:
        root: The folder that stands for `/`.

    Returns:
        JSON-ready data: `topology`, `allowed_cpus` and `cpu_budget`; CPU sets as CPU lists.

    Example:
        >>> sorted(describe())
        ['allowed_cpus', 'cpu_budget', 'topology']

    Thread-safe; holds the GIL, except inside the reads.
    """
    budget = cpu_budget(root)
    return {
        "allowed_cpus": str(budget.allowed),
        "cpu_budget": {
            "count": budget.count,
            "quota": budget.quota,
            "reasons": list(budget.reasons),
        },
        "topology": _describe_topology(topology(root)),
    }


def _describe_topology(machine: Topology) -> dict[str, Any]:
    return {
        "online": str(machine.online),
        "offline": [cpu.cpu_id for cpu in machine.cpus if not cpu.online],
        "packages": [{"package_id": p.package_id, "cpus": str(p.cpus)} for p in machine.packages],
        "numa_nodes": [
            {"numa_node_id": node.numa_node_id, "cpus": str(node.cpus)}
            for node in machine.numa_nodes
        ],
        "l3_domains": [
            {"l3_index": l3.l3_index, "cpus": str(l3.cpus), "size_bytes": l3.size_bytes}
            for l3 in machine.l3_domains
        ],
        "cores": [
            {
                "package_id": core.package_id,
                "core_id": core.core_id,
                "cpus": str(core.cpus),
                "core_type": core.core_type,
                "l1_bytes": machine.cache_size_bytes(next(iter(core.cpus)), level=1),
                "l2_bytes": machine.cache_size_bytes(next(iter(core.cpus)), level=2),
            }
            for core in machine.cores
        ],
        "notes": list(machine.notes),
    }
