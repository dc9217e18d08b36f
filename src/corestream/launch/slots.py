"""Picking groups of cores from a machine that they do not fill: few of them straddle a domain.

`cpu.partition` cuts a pool into parts that use every core. Here some cores stay free, and the
groups go where they fit: within an L3 domain, then within a NUMA node, then anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from corestream.cpu.machine import Topology
from corestream.cpu.partition import Part


@dataclass(frozen=True, slots=True)
class _Slot:
    """Room for one group, and what decides which rooms are taken first."""

    cores: Part
    room: int
    """Cores of the domain that it lies in."""
    rank: int
    """How many slots of the same NUMA node come before it."""


def pick_parts(
    cores: Sequence[int], sizes: Sequence[int], *, topology: Topology, scatter: bool = False
) -> list[Part]:
    """Return disjoint groups of the given sizes, few of them straddling a NUMA node or L3 domain.

    Groups of one size straddle as little as possible. The tightest domain that a group fits in is
    taken first, which leaves the others whole; scattered, each NUMA node gets one group in turn.

    Args:
        cores: CPU ids to pick from, one for each core.
        sizes: The size of each group, together at most `len(cores)`; larger ones first.
        topology: The machine.
        scatter: Spread the groups over NUMA nodes and L3 domains.

    Returns:
        The groups: by size as asked, groups of one size in the order of their places.

    Example:
        >>> from corestream.cpu import CPUSet
        >>> pick_parts(range(8), [3, 2], topology=Topology.flat(CPUSet(range(8))))
        [(0, 1, 2), (3, 4)]

    Thread-safe: touches no shared state; holds the GIL.
    """
    left = sorted(cores, key=lambda cpu: (topology.locality(cpu), cpu))
    parts: list[Part] = []
    for size, group in groupby(sizes):
        tiers = _tiers(left, size, topology=topology)
        key = _scattered if scatter else _tightest
        slots = [slot for tier in tiers for slot in sorted(tier, key=key)]
        chosen = [slot.cores for slot in slots[: len(list(group))]]
        parts += sorted(chosen, key=lambda part: (topology.locality(part[0]), part))
        taken = {cpu for part in chosen for cpu in part}
        left = [cpu for cpu in left if cpu not in taken]
    return parts


def _tightest(slot: _Slot) -> int:
    return slot.room


def _scattered(slot: _Slot) -> int:
    return slot.rank


def _tiers(cores: list[int], size: int, *, topology: Topology) -> tuple[list[_Slot], ...]:
    """Return slots within one L3 domain, within one NUMA node, and the others."""
    in_l3: list[_Slot] = []
    in_node: list[_Slot] = []
    over_nodes: list[int] = []
    for node in _domains(cores, depth=2, topology=topology):
        over_l3s: list[int] = []
        by_l3: list[list[_Slot]] = []
        for l3 in _domains(node, depth=3, topology=topology):
            whole = len(l3) // size * size
            by_l3.append([_Slot(part, len(l3), 0) for part in _cut(l3[:whole], size)])
            over_l3s += l3[whole:]
        in_l3 += [_Slot(slot.cores, slot.room, rank) for rank, slot in enumerate(_in_turn(by_l3))]
        whole = len(over_l3s) // size * size
        in_node += [
            _Slot(part, len(node), rank) for rank, part in enumerate(_cut(over_l3s[:whole], size))
        ]
        over_nodes += over_l3s[whole:]
    return in_l3, in_node, [_Slot(part, 0, 0) for part in _cut(over_nodes, size)]


def _domains(cores: list[int], *, depth: int, topology: Topology) -> list[list[int]]:
    """Return the cores of each node (depth 2) or L3 domain (3); `cores` are in that order."""
    by_place = groupby(cores, key=lambda cpu: topology.locality(cpu)[:depth])
    return [list(group) for _, group in by_place]


def _in_turn(groups: list[list[_Slot]]) -> Iterator[_Slot]:
    """Yield the first of each group, then the second of each, and so on."""
    for index in range(max(map(len, groups), default=0)):
        for group in groups:
            if index < len(group):
                yield group[index]


def _cut(cores: Sequence[int], size: int) -> Iterator[Part]:
    """Yield consecutive groups of `size`; a rest too small for one is left out."""
    for start in range(0, len(cores) - size + 1, size):
        yield tuple(cores[start : start + size])
