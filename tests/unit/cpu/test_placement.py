"""Which cores a pool takes when the budget is smaller than the machine."""

from __future__ import annotations

import pytest

from corestream.cpu import CPUSet, topology
from corestream.cpu.cpu_set import format_cpu_list
from corestream.cpu.placement import choose_cores
from tests.topologies.builder import Machine, build


def choose(root, allowed: str, count: int) -> str:
    machine = topology(root)
    cpus = CPUSet.parse(allowed) if allowed else machine.online
    return format_cpu_list(choose_cores(cpus, count, topology=machine))


@pytest.mark.parametrize(
    ("name", "count", "expected"),
    [
        ("one cpu", 1, "0"),
        (
            "2 packages, 2 nodes each, smt2, interleaved",
            32,
            "0,2,4,6,8,10,12,14,1,3,5,7,9,11,13,15",
        ),
        ("2 packages, 2 nodes each, smt2, interleaved", 8, "0,2,4,6,8,10,12,14"),
        ("2 packages, 2 nodes each, smt2, interleaved", 3, "0,2,4"),
        # One package and a half: the second package gives one whole node.
        (
            "2 packages, 2 nodes each, smt2, interleaved",
            12,
            "0,2,4,6,8,10,12,14,1,3,5,7",
        ),
        ("1 package, 4 nodes", 8, "0-7"),
        ("epyc, 4 l3s per node", 128, "0-63"),
        ("epyc, 4 l3s per node", 16, "0-15"),
        ("epyc, 4 l3s per node", 40, "0-39"),
        ("12 nodes", 4, "0-3"),
        ("holes and offline", 99, "0-1,4,5-8"),
        ("repeated core ids", 99, "0,2,4,6,8,10,12,14"),
        ("wsl", 99, "0,2,4,6"),
        ("gvisor", 2, "0-1"),
        ("more than 1024 cpus", 2000, "0-575"),
    ],
)
def test_whole_machines(root_of, name, count, expected):
    chosen = choose(root_of(name), "", count)
    assert CPUSet.parse(chosen) == CPUSet.parse(expected)
    assert chosen == format_cpu_list(int(i) for i in expand(expected))


def expand(text: str) -> list[int]:
    return [
        cpu
        for item in text.split(",")
        for cpu in range(int(item.split("-")[0]), int(item.split("-")[-1]) + 1)
    ]


@pytest.mark.parametrize(
    ("allowed", "count", "expected"),
    [
        # The L3 domain that fits exactly is taken, not the first one.
        ("0-7,8-11", 4, "8-11"),
        ("0-5,8-11,16-23", 3, "8-10"),
        # Two whole domains rather than parts of three.
        ("0-2,8-15,16-23", 16, "8-23"),
        # One node holds them all, so the larger node is left alone.
        ("0-31,40-45", 6, "40-45"),
        ("0-3,40-45", 8, "0-1,40-45"),
        # The siblings of allowed CPUs are not allowed: 64 stands for core 0.
        ("64,1-2", 3, "1-2,64"),
        ("0,64,1,65", 4, "0-1"),
    ],
)
def test_few_domains_and_nodes(root_of, allowed, count, expected):
    assert choose(root_of("epyc, 4 l3s per node"), allowed, count) == expected


@pytest.mark.parametrize(
    ("allowed", "count", "expected"),
    [
        ("", 99, "0,2,4,6,8,10"),
        ("", 4, "0,2,4,6"),
        ("3,12-19", 99, "3"),
        ("12-19", 99, "12-19"),
    ],
)
def test_performance_cores_only_if_any_is_allowed(root_of, allowed, count, expected):
    assert choose(root_of("hybrid"), allowed, count) == expected


def test_a_cpu_that_the_topology_does_not_know_is_a_core(tmp_path):
    root = build(tmp_path, Machine(cores=2))
    assert CPUSet.parse(choose(root, "0-1,7", 9)) == CPUSet([0, 1, 7])
