"""Machines that people run on, by shape, each with a trap that topology code has fallen into."""

from __future__ import annotations

from tests.topologies.builder import Machine, cgroup_v2

MACHINES = {
    "one cpu": Machine(cores=1),
    # CPU 0 is on package 0, CPU 1 on package 1; a range of ids is never one node.
    "2 packages, 2 nodes each, smt2, interleaved": Machine(
        packages=2, nodes=2, cores=4, smt=2, numbering="packages interleaved"
    ),
    # A Xeon with sub-NUMA clustering: the kernel shows one L3 over all nodes of the package.
    "1 package, 4 nodes": Machine(nodes=4, cores=6, l3_spans_package=True),
    # An EPYC: 4 core complexes of 8 cores to a node, siblings in the upper half of the numbers.
    "epyc, 4 l3s per node": Machine(packages=2, l3s=4, cores=8, smt=2),
    # Sorted as text, node10 comes before node2.
    "12 nodes": Machine(packages=2, nodes=6, cores=2),
    # CPUs 2 and 14 are one core, switched off altogether; 15 leaves its sibling 4 alone.
    "holes and offline": Machine(packages=2, cores=4, smt=2, missing="3,9-11", offline="2,14-15"),
    "repeated core ids": Machine(packages=4, cores=2, smt=2, numbering="siblings adjacent"),
    # High-bandwidth or CXL memory; on POWER the nodes' numbers have holes too.
    "node without cpus": Machine(packages=2, cores=4, node_ids=(0, 8), memory_only_nodes=(2, 255)),
    "hybrid": Machine(cores=6, smt=2, numbering="siblings adjacent", efficient=8),
    # A container on a large host: sysfs shows the host, the cpuset says which CPUs are ours.
    "cpuset 40-79": Machine(
        packages=2,
        cores=40,
        smt=2,
        affinity="40-79",
        cgroup=cgroup_v2("/", {"": {"cpuset.cpus.effective": "40-79", "cpu.max": "max 100000"}}),
    ),
    "wsl": Machine(cores=4, smt=2, numbering="siblings adjacent", node_folder=False),
    "gvisor": Machine(cores=4, sysfs=False, affinity="hidden"),
    "more than 1024 cpus": Machine(packages=8, cores=72, smt=2),
}
