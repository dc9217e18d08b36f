"""Boxes in boxes: every core once, and what contains what."""

from __future__ import annotations

import pytest

from corestream.cpu import CPUSet, NUMANode, topology
from corestream.cpu.machine import Cache, LogicalCPU, Topology
from corestream.topo.tree import boxes_of, format_size
from tests.topologies.machines import MACHINES


def outline(boxes):
    return [(box.titles, outline(box.boxes)) for box in boxes]


def cores_in(boxes):
    return [core for box in boxes for core in (*box.cores, *cores_in(box.boxes))]


@pytest.mark.parametrize("name", MACHINES)
def test_every_core_is_in_one_box(root_of, name):
    machine = topology(root_of(name))
    boxes = boxes_of(machine)
    assert sorted(cores_in(boxes), key=lambda core: min(core.cpus)) == list(machine.cores)
    for box in boxes:
        for core in (*box.cores, *cores_in(box.boxes)):
            assert core.cpus <= box.cpus


def test_things_with_the_same_cpus_are_one_box(root_of):
    assert outline(boxes_of(topology(root_of("one cpu")))) == [
        (("Package 0", "NUMA node 0", "L3 32 MiB"), [])
    ]


def test_l3_domains_within_a_node(root_of):
    first, second = boxes_of(topology(root_of("epyc, 4 l3s per node")))
    assert first.titles == ("Package 0", "NUMA node 0")
    assert [str(box.cpus) for box in first.boxes] == [
        "0-7,64-71",
        "8-15,72-79",
        "16-23,80-87",
        "24-31,88-95",
    ]
    assert second.kind == "package"
    assert {box.kind for box in first.boxes} == {"l3"}


def test_nodes_within_an_l3_domain(root_of):
    [package] = boxes_of(topology(root_of("1 package, 4 nodes")))
    assert package.titles == ("Package 0", "L3 32 MiB")
    assert [box.titles for box in package.boxes] == [(f"NUMA node {n}",) for n in range(4)]


def cpu(cpu_id, *, package, node):
    return LogicalCPU(
        cpu_id=cpu_id,
        package_id=package,
        core_id=cpu_id,
        numa_node_id=node,
        smt_siblings=CPUSet([cpu_id]),
    )


def test_packages_within_a_node():
    cpus = tuple(cpu(i, package=i // 2, node=0) for i in range(4))
    node = NUMANode(numa_node_id=0, cpus=CPUSet(range(4)))
    assert outline(boxes_of(Topology(cpus=cpus, numa_nodes=(node,)))) == [
        (("NUMA node 0",), [(("Package 0",), []), (("Package 1",), [])])
    ]


def test_what_overlaps_is_cut_to_pieces():
    cpus = tuple(cpu(i, package=i // 2, node=i // 2) for i in range(4))
    nodes = tuple(NUMANode(numa_node_id=n, cpus=CPUSet([2 * n, 2 * n + 1])) for n in range(2))
    odd = Cache(level=3, kind="unified", size_bytes=1024, cpus=CPUSet([1, 2]))
    boxes = boxes_of(Topology(cpus=cpus, numa_nodes=nodes, caches=(odd,)))
    assert outline(boxes) == [
        (("Package 0", "NUMA node 0"), [(("L3 1 KiB",), [])]),
        (("Package 1", "NUMA node 1"), [(("L3 1 KiB",), [])]),
    ]
    assert sorted(min(core.cpus) for core in cores_in(boxes)) == [0, 1, 2, 3]


def test_cores_of_no_package_have_a_box():
    lost = LogicalCPU(cpu_id=4, smt_siblings=CPUSet([4]))
    node = NUMANode(numa_node_id=0, cpus=CPUSet([0]))
    machine = Topology(cpus=(cpu(0, package=0, node=0), lost), numa_nodes=(node,))
    *_, rest = boxes_of(machine)
    assert rest.titles == ("no package known",)
    assert [str(core.cpus) for core in rest.cores] == ["4"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "of unknown size"),
        (512, "512 B"),
        (49152, "48 KiB"),
        (1310720, "1.25 MiB"),
        (2**30, "1 GiB"),
    ],
)
def test_sizes(size, text):
    assert format_size(size) == text
