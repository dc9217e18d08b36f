"""Cutting a pool into parts of nearly equal size that keep within L3 domains and NUMA nodes.

Parts come in two sizes, q+1 ("big") and q ("small"), and must go into bins (L3 domains within
NUMA nodes) so that as many as possible lie in one node, and of those as many as possible in one
L3 domain. With two sizes this bin packing is solved by dynamic programming over the number of
big parts: exactly for nodes; for L3 domains exactly where they are alike, nearly so where a
cpuset has left odd remnants of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from corestream.cpu.machine import Locality, Topology

Part = tuple[int, ...]


class _Fit(NamedTuple):
    """What fits beside a given number of big parts; compared in this order, added up over bins."""

    small: int
    """Most small parts that fit."""
    in_l3: int
    """Most parts, big or small, that lie within one L3 domain."""


class _Allocation(NamedTuple):
    fit: _Fit
    big: tuple[int, ...]
    """Number of big parts for each bin."""


def partition(cpu_ids: Sequence[int], count: int, *, topology: Topology) -> list[Part]:
    """Cut CPUs into `count` parts, the first `len(cpu_ids) % count` of them one CPU larger.

    Consecutive slices, unless another cut lets fewer parts straddle a NUMA node or, second, an
    L3 domain; then the parts are packed into the domains, which keep the order of their CPUs.

    Args:
        cpu_ids: Distinct CPU ids in the order of the pool.
        count: Number of parts, 1 to len(cpu_ids).
        topology: The machine.

    Returns:
        The parts; every CPU is in exactly one.

    Example:
        >>> from corestream.cpu import CPUSet
        >>> partition([0, 1, 2, 3, 4], 2, topology=Topology.flat(CPUSet(range(5))))
        [(0, 1, 2), (3, 4)]

    Thread-safe: touches no shared state; holds the GIL.
    """
    small, num_big = divmod(len(cpu_ids), count)
    ends = [index * small + min(index, num_big) for index in range(count + 1)]
    plain = [tuple(cpu_ids[a:b]) for a, b in pairwise(ends)]
    locality = {cpu: topology.locality(cpu) for cpu in cpu_ids}
    if _straddling(plain, locality) == (0, 0, 0):
        return plain
    packer = _Packer(_group_by_domain(cpu_ids, locality), small=small, num_big=num_big)
    packed = packer.pack(num_small=count - num_big)
    position = {cpu: index for index, cpu in enumerate(cpu_ids)}
    packed.sort(key=lambda part: (-len(part), position[part[0]]))
    return min(plain, packed, key=lambda parts: _straddling(parts, locality))


def _straddling(parts: Sequence[Part], locality: dict[int, Locality]) -> tuple[int, int, int]:
    """Count the parts over several nodes, those over several L3 domains, the surplus domains."""
    nodes = [len({locality[cpu][:2] for cpu in part}) for part in parts]
    domains = [len({locality[cpu] for cpu in part}) for part in parts]
    return (
        sum(count > 1 for count in nodes),
        sum(count > 1 for count in domains),
        sum(domains) - len(parts),
    )


def _group_by_domain(
    cpu_ids: Sequence[int], locality: dict[int, Locality]
) -> list[list[list[int]]]:
    """Return the CPUs of each L3 domain of each node, everything in order of first appearance."""
    first: dict[tuple[int, ...], int] = {}
    for index, cpu in enumerate(cpu_ids):
        for depth in (1, 2, 3):
            first.setdefault(locality[cpu][:depth], index)

    def place(cpu: int) -> tuple[int, ...]:
        return tuple(first[locality[cpu][:depth]] for depth in (1, 2, 3))

    ordered = sorted(cpu_ids, key=place)
    return [
        [list(domain) for _, domain in groupby(node, key=place)]
        for _, node in groupby(ordered, key=lambda cpu: place(cpu)[:2])
    ]


class _Packer:
    """Packs big and small parts into `nodes`, lists of L3 domains, which are lists of CPUs."""

    def __init__(self, nodes: list[list[list[int]]], *, small: int, num_big: int) -> None:
        self._nodes = nodes
        self._small = small
        self._big = small + 1
        self._num_big = num_big

    def pack(self, *, num_small: int) -> list[Part]:
        """Return all parts; those that must straddle nodes are cut from what is left over."""
        within = [self._fit_domains(node) for node in self._nodes]
        options = [
            self._fits_of_node(node, allocations)
            for node, allocations in zip(self._nodes, within, strict=True)
        ]
        best = max(
            _allocate(options, self._num_big),
            key=lambda a: (sum(a.big) + min(a.fit.small, num_small), a.fit.in_l3),
        )
        parts: list[Part] = []
        left: list[int] = []
        small_left = num_small
        for node, allocations, big, fits in zip(
            self._nodes, within, best.big, options, strict=True
        ):
            small = min(small_left, fits[big].small)
            small_left -= small
            packed = self._pack_node(node, allocations, big=big, small=small)
            parts += packed
            used = {cpu for part in packed for cpu in part}
            left += [cpu for domain in node for cpu in domain if cpu not in used]
        return parts + self._cut(left, big=self._num_big - sum(best.big), small=small_left)

    def _fit_domains(self, node: list[list[int]]) -> list[_Allocation]:
        """Return the best use of the L3 domains of a node for 0, 1, 2... big parts in them."""
        options = [
            [
                _Fit(small := (len(domain) - big * self._big) // self._small, big + small)
                for big in range(len(domain) // self._big + 1)
            ]
            for domain in node
        ]
        return _allocate(options, self._num_big)

    def _fits_of_node(self, node: list[list[int]], allocations: list[_Allocation]) -> list[_Fit]:
        """Return what fits in a node beside 0, 1, 2... big parts."""
        cpus = sum(map(len, node))
        fits = []
        for big in range(min(self._num_big, cpus // self._big) + 1):
            small = (cpus - big * self._big) // self._small
            _, in_l3 = _most_in_l3(allocations, big=big, small=small)
            fits.append(_Fit(small, in_l3))
        return fits

    def _pack_node(
        self, node: list[list[int]], allocations: list[_Allocation], *, big: int, small: int
    ) -> list[Part]:
        """Return `big` and `small` parts of one node, as many as possible within L3 domains."""
        chosen, _ = _most_in_l3(allocations, big=big, small=small)
        parts: list[Part] = []
        left: list[int] = []
        for domain, domain_big in zip(node, allocations[chosen].big, strict=True):
            after_big = domain_big * self._big
            domain_small = min(small, (len(domain) - after_big) // self._small)
            end = after_big + domain_small * self._small
            parts += self._cut(domain[:end], big=domain_big, small=domain_small)
            left += domain[end:]
            big -= domain_big
            small -= domain_small
        return parts + self._cut(left, big=big, small=small)

    def _cut(self, cpus: list[int], *, big: int, small: int) -> list[Part]:
        """Return consecutive slices of `cpus`: `big` big ones, then `small` small ones."""
        middle, end = big * self._big, big * self._big + small * self._small
        return [tuple(cpus[a : a + self._big]) for a in range(0, middle, self._big)] + [
            tuple(cpus[a : a + self._small]) for a in range(middle, end, self._small)
        ]


def _most_in_l3(allocations: list[_Allocation], *, big: int, small: int) -> tuple[int, int]:
    """Return how many of `big` to put within L3 domains, and how many parts then lie in one."""
    counts = [
        used + min(allocation.fit.small, small)
        for used, allocation in enumerate(allocations[: big + 1])
    ]
    best = max(range(len(counts)), key=counts.__getitem__)
    return best, counts[best]


def _allocate(options: list[list[_Fit]], limit: int) -> list[_Allocation]:
    """Spread 0, 1, 2... up to `limit` big parts over bins, the best way for each number.

    Args:
        options: For each bin, what fits beside 0, 1, 2... big parts in it.
        limit: Most big parts.
    """
    best = [_Allocation(_Fit(0, 0), ())]
    for fits in options:
        longer: list[_Allocation | None] = [None] * min(limit + 1, len(best) + len(fits) - 1)
        for used, (total, big) in enumerate(best):
            for more, fit in enumerate(fits[: len(longer) - used]):
                candidate = _Allocation(
                    _Fit(total.small + fit.small, total.in_l3 + fit.in_l3), (*big, more)
                )
                known = longer[used + more]
                if known is None or candidate.fit > known.fit:
                    longer[used + more] = candidate
        best = [allocation for allocation in longer if allocation is not None]
    return best
