"""Reading a `Topology` from the text files of a machine; a pure function of that text."""

from __future__ import annotations

from dataclasses import dataclass

from corestream.cpu.caches import read_caches
from corestream.cpu.core_type import read_core_types
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.machine import Cache, CoreType, LogicalCPU, NUMANode, Topology, l3_domains_of
from corestream.cpu.procfs import CPUINFO, STATUS, read_cpuinfo, read_status_affinity
from corestream.cpu.system_files import SystemFiles

_CPU = "sys/devices/system/cpu"
_NODE = "sys/devices/system/node"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the kernel says an online CPU sits, before contradictions are settled."""

    package_id: int | None
    core_id: int | None
    siblings: CPUSet | None


def read_topology(files: SystemFiles) -> Topology:
    """Return the topology of a machine; never raises, whatever the files hold.

    Args:
        files: The machine. Its notes become the topology's.
    """
    present, online = _read_present_and_online(files)
    if present:
        places = {cpu: _read_place(files, cpu) for cpu in online}
    else:
        places = _places_without_sysfs(files)
        present = online = CPUSet(places)
    nodes = _read_nodes(files, online)
    caches = read_caches(files, online)
    if not any(cache.level == 3 for cache in caches):
        files.note("level-3 caches", "not described; a NUMA node counts as one L3 domain")
    return _assemble(
        files,
        present=present,
        places=places,
        nodes=nodes,
        caches=caches,
        core_types=read_core_types(files, online),
    )


def read_online(files: SystemFiles) -> CPUSet | None:
    """Return the CPUs that are switched on, or None where sysfs does not tell.

    Args:
        files: The machine.
    """
    return files.read_cpus(f"{_CPU}/online") or None


def _read_present_and_online(files: SystemFiles) -> tuple[CPUSet, CPUSet]:
    folders = CPUSet(files.numbered(_CPU, prefix="cpu"))
    online = read_online(files)
    if online is None and folders:
        files.note(f"{_CPU}/online", "no CPU list; asking each CPU")
        # A CPU that cannot be switched off (CPU 0 of most machines) has no `online` file.
        online = CPUSet(c for c in folders if files.read_int(f"{_CPU}/cpu{c}/online") != 0)
    present = files.read_cpus(f"{_CPU}/present") or folders
    online = online or CPUSet()
    return present | online, online


def _read_place(files: SystemFiles, cpu: int) -> _Place:
    folder = f"{_CPU}/cpu{cpu}/topology"
    siblings = files.read_cpus(f"{folder}/core_cpus_list")
    if siblings is None:
        # The name before Linux 5.3, still there in later kernels.
        siblings = files.read_cpus(f"{folder}/thread_siblings_list", expected=True)
    return _Place(
        package_id=_read_id(files, f"{folder}/physical_package_id"),
        core_id=_read_id(files, f"{folder}/core_id"),
        siblings=siblings,
    )


def _read_id(files: SystemFiles, path: str) -> int | None:
    # Firmware that does not say leaves -1 (arm64, virtual machines).
    value = files.read_int(path, expected=True)
    return None if value is None or value < 0 else value


def _places_without_sysfs(files: SystemFiles) -> dict[int, _Place]:
    infos = read_cpuinfo(files)
    if infos:
        files.note(_CPU, f"no CPUs described; read {CPUINFO} instead")
        return {
            cpu: _Place(package_id=infos[cpu].package_id, core_id=infos[cpu].core_id, siblings=None)
            for cpu in sorted(infos)
        }
    affinity = read_status_affinity(files)
    if affinity is None:
        files.note(_CPU, "no CPUs described; taking the machine for one CPU")
        affinity = CPUSet([0])
    else:
        files.note(_CPU, f"no CPUs described; taking the affinity mask of {STATUS} for the machine")
    return {cpu: _Place(package_id=None, core_id=None, siblings=None) for cpu in affinity}


def _read_nodes(files: SystemFiles, online: CPUSet) -> tuple[NUMANode, ...]:
    ids = files.numbered(_NODE, prefix="node")
    if not ids:
        files.note(_NODE, "no NUMA nodes described; taking the machine for one node, 0")
        return (NUMANode(numa_node_id=0, cpus=online),)
    nodes = []
    for node in ids:
        cpus = files.read_cpus(f"{_NODE}/node{node}/cpulist", expected=True) or CPUSet()
        nodes.append(NUMANode(numa_node_id=node, cpus=cpus & online))
    return tuple(nodes)


def _group_siblings(places: dict[int, _Place]) -> dict[int, CPUSet]:
    """Return the SMT siblings of each CPU, a partition even if the files contradict each other."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for cpu, place in places.items():
        key: tuple[int, ...]
        if place.siblings is not None and cpu in place.siblings:
            key = (next(sibling for sibling in place.siblings if sibling in places),)
        elif place.package_id is not None and place.core_id is not None:
            key = (place.package_id, place.core_id)
        else:
            key = (cpu,)
        groups.setdefault(key, []).append(cpu)
    return {cpu: CPUSet(group) for group in groups.values() for cpu in group}


def _assemble(
    files: SystemFiles,
    *,
    present: CPUSet,
    places: dict[int, _Place],
    nodes: tuple[NUMANode, ...],
    caches: tuple[Cache, ...],
    core_types: dict[int, CoreType],
) -> Topology:
    siblings = _group_siblings(places)
    node_of = {cpu: node.numa_node_id for node in nodes for cpu in node.cpus}
    l3_of = {cpu: l3.l3_index for l3 in l3_domains_of(caches) for cpu in l3.cpus}
    cpus = []
    for cpu in present:
        place = places.get(cpu)
        if place is None:
            cpus.append(LogicalCPU(cpu_id=cpu, online=False))
            continue
        cpus.append(
            LogicalCPU(
                cpu_id=cpu,
                package_id=place.package_id,
                core_id=place.core_id,
                numa_node_id=node_of.get(cpu),
                l3_index=l3_of.get(cpu),
                core_type=core_types.get(cpu),
                smt_siblings=siblings[cpu],
            )
        )
    return Topology(cpus=tuple(cpus), numa_nodes=nodes, caches=caches, notes=files.notes)
