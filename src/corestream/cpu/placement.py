"""Choosing which CPUs a pool takes when it may not take them all."""

from __future__ import annotations

from collections.abc import Sequence

from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.machine import Topology

_LEVELS = 3
"""Depth of `Topology.locality`: package, NUMA node, L3 domain."""


def choose_cores(allowed: CPUSet, count: int, *, topology: Topology) -> list[int]:
    """Return one logical CPU each of at most `count` physical cores close to each other.

    Whole L3 domains and NUMA nodes come first, and the cores lie in as few as that permits. On
    a hybrid machine only performance cores are taken, if any is allowed: a parallel region ends
    with its slowest thread.

    Args:
        allowed: The logical CPUs to choose from.
        count: Most cores to take, at least 1.
        topology: The machine.

    Returns:
        CPU ids ordered by package, NUMA node, L3 domain, id.

    Thread-safe: touches no shared state; holds the GIL.
    """
    performance = allowed & topology.cpus_of_type("performance")
    cores = topology.one_cpu_per_core(performance or allowed)
    taken = _take(cores, count, topology=topology, level=0)
    return sorted(taken, key=lambda cpu: (topology.locality(cpu), cpu))


def _take(cores: Sequence[int], count: int, *, topology: Topology, level: int) -> list[int]:
    """Take `count` of `cores` in few groups of this level, whole groups where they fit."""
    if count >= len(cores) or level == _LEVELS:
        return list(cores[:count])
    groups: dict[int, list[int]] = {}
    for cpu in cores:
        groups.setdefault(topology.locality(cpu)[level], []).append(cpu)
    remaining = list(groups.values())
    taken: list[int] = []
    while count > len(taken):
        missing = count - len(taken)
        fitting = [group for group in remaining if len(group) >= missing]
        if fitting:
            # The tightest fit leaves the larger groups whole for someone else.
            best = min(fitting, key=len)
            return taken + _take(best, missing, topology=topology, level=level + 1)
        largest = max(remaining, key=len)
        remaining.remove(largest)
        taken += largest
    return taken
