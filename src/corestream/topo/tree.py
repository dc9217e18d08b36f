"""A machine as boxes in boxes: whatever contains the other, packages, NUMA nodes, L3 domains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.machine import Core, Topology

Kind = str
"""`package`, `node` or `l3`; the outermost one that a box stands for."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """Something that holds CPUs; things with the same CPUs are one box with several titles."""

    kind: Kind
    titles: tuple[str, ...]
    cpus: CPUSet
    boxes: tuple[Box, ...] = ()
    cores: tuple[Core, ...] = ()
    """The cores that lie in none of its boxes."""


@dataclass
class _Draft:
    kind: Kind
    titles: list[str]
    cpus: CPUSet
    inside: list[_Draft] = field(default_factory=list)


def boxes_of(machine: Topology) -> tuple[Box, ...]:
    """Return the outermost boxes of a machine.

    What contains what differs: the L3 of a Xeon may span several NUMA nodes, a node several
    packages. So, as in hwloc, the sets of CPUs decide; where two overlap without one containing
    the other, the smaller one is cut into pieces.

    Args:
        machine: The machine.
    """
    everything = _Draft("", [], machine.online)
    # Python's sort keeps packages before nodes before L3 domains where they are alike.
    for kind, title, cpus in sorted(_groups(machine), key=lambda group: -len(group[2])):
        _insert(everything, kind=kind, title=title, cpus=cpus)
    top = _finish(everything, machine.cores)
    rest = Box(kind="package", titles=("no package known",), cpus=CPUSet(), cores=top.cores)
    return (*top.boxes, rest) if top.cores else top.boxes


def _groups(machine: Topology) -> Iterator[tuple[Kind, str, CPUSet]]:
    for package in machine.packages:
        yield "package", f"Package {package.package_id}", package.cpus
    for node in machine.numa_nodes:
        if node.cpus:
            yield "node", f"NUMA node {node.numa_node_id}", node.cpus
    for l3 in machine.l3_domains:
        yield "l3", f"L3 {format_size(l3.size_bytes)}", l3.cpus


def _insert(parent: _Draft, *, kind: Kind, title: str, cpus: CPUSet) -> None:
    if parent.cpus == cpus and parent.titles:
        parent.titles.append(title)
        return
    left = cpus
    for box in parent.inside:
        shared = box.cpus & left
        if shared:
            _insert(box, kind=kind, title=title, cpus=shared)
            left -= shared
    if left:
        parent.inside.append(_Draft(kind, [title], left))


def _finish(draft: _Draft, cores: Sequence[Core]) -> Box:
    boxes = []
    left = list(cores)
    for inside in sorted(draft.inside, key=lambda box: min(box.cpus)):
        mine = [core for core in left if core.cpus <= inside.cpus]
        left = [core for core in left if not core.cpus <= inside.cpus]
        boxes.append(_finish(inside, mine))
    return Box(
        kind=draft.kind,
        titles=tuple(draft.titles),
        cpus=draft.cpus,
        boxes=tuple(boxes),
        cores=tuple(left),
    )


def format_size(size_bytes: int | None) -> str:
    """Return a cache's size as people write it.

    Args:
        size_bytes: The size, None if unknown.
    """
    if size_bytes is None:
        return "of unknown size"
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.4g} {name}"
    return f"{size_bytes} B"
