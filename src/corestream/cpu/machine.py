"""What a machine looks like: logical CPUs, cores, packages, NUMA nodes, L3 domains, caches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from corestream.cpu.cpu_set import CPUSet

CoreType = Literal["performance", "efficient"]
"""Class of a core on a hybrid machine; None on a machine whose cores are alike."""

Locality = tuple[int, int, int]
"""(package, NUMA node, L3 domain) of a CPU, -1 where unknown; sorts neighbours together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalCPU:
    """What Linux numbers and schedules on.

    `core_id` is the OS's number and repeats from package to package; `smt_siblings` are the
    online CPUs of the same physical core, this one included. An offline CPU has no place: all
    its other fields are None or empty.

    Example:
        >>> cpu = LogicalCPU(cpu_id=4, package_id=0, core_id=0, smt_siblings=CPUSet([0, 4]))
        >>> cpu.online, str(cpu.smt_siblings)
        (True, '0,4')

    Thread-safe: a value that never changes; holds the GIL.
    """

    cpu_id: int
    online: bool = True
    package_id: int | None = None
    core_id: int | None = None
    numa_node_id: int | None = None
    l3_index: int | None = None
    core_type: CoreType | None = None
    smt_siblings: CPUSet = field(default_factory=CPUSet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """A physical core; (package_id, core_id) is its key in the OS's numbering.

    Example:
        >>> [str(core.cpus) for core in Topology.flat(CPUSet.parse("0-1")).cores]
        ['0', '1']

    Thread-safe: a value that never changes; holds the GIL.
    """

    package_id: int | None
    core_id: int | None
    cpus: CPUSet
    core_type: CoreType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A physical chip in a socket, with its online CPUs.

    Example:
        >>> Topology.flat(CPUSet.parse("0-1")).packages
        (Package(package_id=0, cpus=CPUSet.parse('0-1')),)

    Thread-safe: a value that never changes; holds the GIL.
    """

    package_id: int
    cpus: CPUSet


@dataclass(frozen=True, slots=True, kw_only=True)
class NUMANode:
    """Memory and the online CPUs close to it; a node may have no CPUs.

    Example:
        >>> NUMANode(numa_node_id=2, cpus=CPUSet())
        NUMANode(numa_node_id=2, cpus=CPUSet())

    Thread-safe: a value that never changes; holds the GIL.
    """

    numa_node_id: int
    cpus: CPUSet


@dataclass(frozen=True, slots=True, kw_only=True)
class L3Domain:
    """The online CPUs that share one level-3 cache; `l3_index` is our own count.

    Example:
        >>> L3Domain(l3_index=0, cpus=CPUSet.parse("0-7"), size_bytes=32 * 2**20).l3_index
        0

    Thread-safe: a value that never changes; holds the GIL.
    """

    l3_index: int
    cpus: CPUSet
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """One cache, with the online CPUs that share it; `size_bytes` is None if unknown.

    Example:
        >>> Cache(level=2, kind="unified", size_bytes=2**20, cpus=CPUSet([0, 64])).level
        2

    Thread-safe: a value that never changes; holds the GIL.
    """

    level: int
    kind: Literal["data", "instruction", "unified"]
    size_bytes: int | None
    cpus: CPUSet


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The CPUs of a machine and how they are wired; a value that never changes.

    Obtained from `corestream.cpu.topology`. Ids have holes and need not start at 0; `notes` says
    in words what could not be read.

    Example:
        >>> machine = Topology.flat(CPUSet.parse("0-3"))
        >>> len(machine.cores), str(machine.cpus_of_numa_node(0))
        (4, '0-3')

    Thread-safe: a value that never changes; holds the GIL.
    """

    cpus: tuple[LogicalCPU, ...]
    numa_nodes: tuple[NUMANode, ...]
    caches: tuple[Cache, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def flat(cls, cpus: CPUSet, *, notes: tuple[str, ...] = ()) -> Topology:
        """Return a machine of which only the CPU ids are known.

        Every CPU is a core of its own, all in package 0 and NUMA node 0.

        Args:
            cpus: The logical CPU ids, all online.
            notes: Why no more is known.
        """
        return cls(
            cpus=tuple(
                LogicalCPU(
                    cpu_id=cpu,
                    package_id=0,
                    core_id=index,
                    numa_node_id=0,
                    smt_siblings=CPUSet([cpu]),
                )
                for index, cpu in enumerate(cpus)
            ),
            numa_nodes=(NUMANode(numa_node_id=0, cpus=cpus),),
            notes=notes,
        )

    @cached_property
    def online(self) -> CPUSet:
        """The CPUs that are switched on."""
        return CPUSet(cpu.cpu_id for cpu in self.cpus if cpu.online)

    @cached_property
    def cores(self) -> tuple[Core, ...]:
        """The physical cores with an online CPU, by lowest CPU id."""
        groups: dict[CPUSet, LogicalCPU] = {}
        for cpu in self.cpus:
            if cpu.online:
                groups.setdefault(cpu.smt_siblings or CPUSet([cpu.cpu_id]), cpu)
        return tuple(
            Core(
                package_id=first.package_id,
                core_id=first.core_id,
                cpus=siblings,
                core_type=first.core_type,
            )
            for siblings, first in groups.items()
        )

    @cached_property
    def packages(self) -> tuple[Package, ...]:
        """The packages with an online CPU, by id."""
        groups: dict[int, list[int]] = {}
        for cpu in self.cpus:
            if cpu.package_id is not None:
                groups.setdefault(cpu.package_id, []).append(cpu.cpu_id)
        return tuple(Package(package_id=p, cpus=CPUSet(groups[p])) for p in sorted(groups))

    @cached_property
    def l3_domains(self) -> tuple[L3Domain, ...]:
        """The level-3 caches, by lowest CPU id; none where the kernel does not tell."""
        return l3_domains_of(self.caches)

    @cached_property
    def _by_id(self) -> dict[int, LogicalCPU]:
        return {cpu.cpu_id: cpu for cpu in self.cpus}

    def cpu(self, cpu_id: int) -> LogicalCPU:
        """Return the logical CPU with that id.

        Raises:
            ValueError: The machine has no such CPU.
        """
        try:
            return self._by_id[cpu_id]
        except KeyError:
            raise ValueError(
                f"cpu_id must be one of {CPUSet(self._by_id)}; got {cpu_id!r}; see Topology.cpus"
            ) from None

    def smt_siblings(self, cpu_id: int) -> CPUSet:
        """Return the online CPUs of the same physical core, `cpu_id` included.

        Raises:
            ValueError: The machine has no such CPU.
        """
        return self.cpu(cpu_id).smt_siblings

    def cpus_of_core(self, package_id: int, core_id: int) -> CPUSet:
        """Return the online CPUs of the core with that key; empty if there is none."""
        key = (package_id, core_id)
        return CPUSet(c.cpu_id for c in self.cpus if (c.package_id, c.core_id) == key)

    def cpus_of_package(self, package_id: int) -> CPUSet:
        """Return the online CPUs of a package; empty if there is none with that id."""
        return CPUSet(c.cpu_id for c in self.cpus if c.package_id == package_id)

    def cpus_of_numa_node(self, numa_node_id: int) -> CPUSet:
        """Return the online CPUs of a NUMA node; empty for a node of memory only."""
        return CPUSet(c.cpu_id for c in self.cpus if c.numa_node_id == numa_node_id)

    def cpus_of_l3_domain(self, l3_index: int) -> CPUSet:
        """Return the online CPUs that share a level-3 cache; empty if there is no such cache."""
        return CPUSet(c.cpu_id for c in self.cpus if c.l3_index == l3_index)

    def cpus_of_type(self, core_type: CoreType | None) -> CPUSet:
        """Return the online CPUs of a core type; None asks for those of no known type."""
        return CPUSet(c.cpu_id for c in self.cpus if c.online and c.core_type == core_type)

    def cache_size_bytes(self, cpu_id: int, *, level: int) -> int | None:
        """Return the size of a CPU's data or unified cache, or None if unknown.

        Args:
            cpu_id: A logical CPU.
            level: 1, 2 or 3.
        """
        for cache in self.caches:
            if cache.level == level and cache.kind != "instruction" and cpu_id in cache.cpus:
                return cache.size_bytes
        return None

    def one_cpu_per_core(self, cpus: Iterable[int]) -> list[int]:
        """Return the first of `cpus` on each physical core, neighbours next to each other.

        Args:
            cpus: Logical CPU ids; one the topology does not know counts as a core of its own.

        Returns:
            Ids ordered by package, NUMA node, L3 domain, id.
        """
        first: dict[CPUSet, int] = {}
        for cpu in sorted(cpus):
            known = self._by_id.get(cpu)
            first.setdefault(known.smt_siblings if known else CPUSet([cpu]), cpu)
        return sorted(first.values(), key=lambda cpu: (self.locality(cpu), cpu))

    def locality(self, cpu_id: int) -> Locality:
        """Return (package, NUMA node, L3 domain) of a CPU, -1 where unknown."""
        cpu = self._by_id.get(cpu_id)
        if cpu is None:
            return (-1, -1, -1)
        place = (cpu.package_id, cpu.numa_node_id, cpu.l3_index)
        package, node, l3 = (-1 if part is None else part for part in place)
        return (package, node, l3)


def l3_domains_of(caches: Iterable[Cache]) -> tuple[L3Domain, ...]:
    """Return the level-3 caches of a machine, numbered by lowest CPU id.

    Args:
        caches: Caches of every level.
    """
    found = sorted((c for c in caches if c.level == 3), key=lambda c: min(c.cpus))
    return tuple(
        L3Domain(l3_index=index, cpus=cache.cpus, size_bytes=cache.size_bytes)
        for index, cache in enumerate(found)
    )
