"""`topology(root)` on machines of every shape: nothing assumed, nothing raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from corestream.cpu import CPUSet, Topology, topology
from corestream.cpu.procfs import read_cpu_name
from corestream.cpu.sysfs import read_topology
from corestream.cpu.system_files import SystemFiles
from tests.topologies.builder import Machine, build, write
from tests.topologies.machines import MACHINES

CPU = "sys/devices/system/cpu"


def cpus(text: str) -> CPUSet:
    return CPUSet.parse(text)


def nodes_of(machine: Topology) -> dict[int, str]:
    return {node.numa_node_id: str(node.cpus) for node in machine.numa_nodes}


def shape_of(machine: Topology) -> tuple[int, ...]:
    return (
        len(machine.online),
        len(machine.cores),
        len(machine.packages),
        len(machine.numa_nodes),
        len(machine.l3_domains),
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("one cpu", (1, 1, 1, 1, 1)),
        ("2 packages, 2 nodes each, smt2, interleaved", (32, 16, 2, 4, 4)),
        ("1 package, 4 nodes", (24, 24, 1, 4, 1)),
        ("epyc, 4 l3s per node", (128, 64, 2, 2, 8)),
        ("12 nodes", (24, 24, 2, 12, 12)),
        ("holes and offline", (13, 7, 2, 2, 2)),
        ("repeated core ids", (16, 8, 4, 4, 4)),
        ("node without cpus", (8, 8, 2, 4, 2)),
        ("hybrid", (20, 14, 1, 1, 1)),
        ("cpuset 40-79", (160, 80, 2, 2, 2)),
        ("wsl", (8, 4, 1, 1, 1)),
        ("gvisor", (4, 4, 1, 1, 0)),
        ("more than 1024 cpus", (1152, 576, 8, 8, 8)),
    ],
)
def test_shape(root_of, name, shape):
    assert shape_of(topology(root_of(name))) == shape


def test_every_machine_has_its_shape_tested():
    marks = test_shape.pytestmark[0].args[1]
    assert {name for name, _ in marks} == set(MACHINES)


@pytest.mark.parametrize("name", MACHINES)
def test_parts_are_partitions_of_the_online_cpus(root_of, name):
    machine = topology(root_of(name))
    for parts in (machine.cores, machine.packages, machine.numa_nodes):
        assert sorted(cpu for part in parts for cpu in part.cpus) == list(machine.online)
    in_l3 = [cpu for l3 in machine.l3_domains for cpu in l3.cpus]
    assert len(in_l3) == len(set(in_l3))


@pytest.mark.parametrize("name", MACHINES)
def test_queries_agree_with_the_cpus(root_of, name):
    machine = topology(root_of(name))
    for cpu in machine.cpus:
        assert machine.cpu(cpu.cpu_id) is cpu
        if not cpu.online:
            continue
        assert cpu.cpu_id in machine.smt_siblings(cpu.cpu_id)
        assert cpu.cpu_id in machine.cpus_of_core(cpu.package_id, cpu.core_id)
        assert cpu.cpu_id in machine.cpus_of_package(cpu.package_id)
        assert cpu.cpu_id in machine.cpus_of_numa_node(cpu.numa_node_id)
        if cpu.l3_index is not None:
            assert cpu.cpu_id in machine.cpus_of_l3_domain(cpu.l3_index)
            assert cpu.cpu_id in machine.l3_domains[cpu.l3_index].cpus


@pytest.mark.parametrize("name", sorted(set(MACHINES) - {"wsl", "gvisor"}))
def test_nothing_is_noted_on_a_machine_that_tells_everything(root_of, name):
    assert topology(root_of(name)).notes == ()


def test_interleaved_packages(root_of):
    machine = topology(root_of("2 packages, 2 nodes each, smt2, interleaved"))
    assert nodes_of(machine) == {
        0: "0,2,4,6,16,18,20,22",
        1: "8,10,12,14,24,26,28,30",
        2: "1,3,5,7,17,19,21,23",
        3: "9,11,13,15,25,27,29,31",
    }
    assert machine.smt_siblings(5) == cpus("5,21")
    assert machine.cpus_of_package(0) == CPUSet(range(0, 32, 2))


def test_an_l3_over_several_nodes(root_of):
    machine = topology(root_of("1 package, 4 nodes"))
    assert machine.cpus_of_l3_domain(0) == cpus("0-23")
    assert machine.locality(7) == (0, 1, 0)


def test_several_l3_domains_in_a_node(root_of):
    machine = topology(root_of("epyc, 4 l3s per node"))
    assert machine.cpus_of_l3_domain(1) == cpus("8-15,72-79")
    assert machine.l3_domains[1].size_bytes == 32 * 2**20
    assert {machine.cpu(cpu).numa_node_id for cpu in machine.l3_domains[4].cpus} == {1}


def test_more_than_ten_nodes_are_in_numerical_order(root_of):
    machine = topology(root_of("12 nodes"))
    assert list(nodes_of(machine)) == list(range(12))
    assert machine.cpus_of_numa_node(11) == cpus("22-23")


def test_holes_and_offline_cpus(root_of):
    machine = topology(root_of("holes and offline"))
    assert machine.online == cpus("0-1,4-8,12-13,16-19")
    assert [cpu.cpu_id for cpu in machine.cpus if not cpu.online] == [2, 14, 15]
    offline = machine.cpu(2)
    assert (offline.package_id, offline.numa_node_id, offline.smt_siblings) == (
        None,
        None,
        CPUSet(),
    )
    assert machine.smt_siblings(2) == CPUSet()
    assert machine.smt_siblings(4) == cpus("4")
    with pytest.raises(ValueError, match="cpu_id must be one of 0-2,4-8,12-19; got 3"):
        machine.cpu(3)


def test_core_ids_repeat_in_every_package(root_of):
    machine = topology(root_of("repeated core ids"))
    assert [(core.package_id, core.core_id) for core in machine.cores] == [
        (package, core) for package in range(4) for core in range(2)
    ]
    assert machine.cpus_of_core(1, 0) == cpus("4-5")


def test_nodes_with_holes_and_without_cpus(root_of):
    machine = topology(root_of("node without cpus"))
    assert nodes_of(machine) == {0: "0-3", 2: "", 8: "4-7", 255: ""}
    assert machine.cpus_of_numa_node(2) == CPUSet()


@pytest.mark.parametrize("marked_by", ["pmu", "cpu_capacity", "cpufreq/cpuinfo_max_freq"])
def test_core_types_of_a_hybrid_machine(tmp_path, marked_by):
    shape = Machine(cores=2, smt=2, numbering="siblings adjacent", efficient=4, marked_by=marked_by)
    machine = topology(build(tmp_path, shape))
    assert machine.cpus_of_type("performance") == cpus("0-3")
    assert machine.cpus_of_type("efficient") == cpus("4-7")
    assert machine.cpus_of_type(None) == CPUSet()
    assert [core.core_type for core in machine.cores] == ["performance"] * 2 + ["efficient"] * 4


def test_cores_of_slightly_different_frequency_are_alike(tmp_path):
    root = build(tmp_path, Machine(cores=4))
    for cpu, khz in enumerate((5_800_000, 5_800_000, 5_500_000, 5_500_000)):
        write(root, {f"{CPU}/cpu{cpu}/cpufreq/cpuinfo_max_freq": f"{khz}\n"})
    assert topology(root).cpus_of_type(None) == cpus("0-3")


def test_three_classes_leave_only_the_smallest_cores_efficient(tmp_path):
    root = build(tmp_path, Machine(cores=3))
    for cpu, capacity in enumerate((1024, 870, 330)):
        write(root, {f"{CPU}/cpu{cpu}/cpu_capacity": f"{capacity}\n"})
    assert topology(root).cpus_of_type("efficient") == cpus("2")


def test_a_low_power_island_is_efficient(tmp_path):
    root = build(tmp_path, Machine(cores=2, efficient=4))
    write(root, {"sys/devices/cpu_atom/cpus": "2-3", "sys/devices/cpu_lowpower/cpus": "4-5"})
    assert topology(root).cpus_of_type("efficient") == cpus("2-5")


def test_cache_sizes(root_of):
    machine = topology(root_of("epyc, 4 l3s per node"))
    sizes = [machine.cache_size_bytes(64, level=level) for level in (1, 2, 3, 4)]
    assert sizes == [48 * 2**10, 2**20, 32 * 2**20, None]
    assert len(machine.caches) == 64 * 3 + 8


def test_a_shared_cache_is_read_once(root_of):
    files = SystemFiles(root_of("epyc, 4 l3s per node"))
    read_topology(files)
    assert sum(path.endswith("index3/size") for path in files.texts) == 8


def test_without_a_node_folder_there_is_one_node(root_of):
    machine = topology(root_of("wsl"))
    assert nodes_of(machine) == {0: "0-7"}
    assert any("one node, 0" in note for note in machine.notes)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: A  CPU \n\nmodel name\t: Another", "A  CPU"),
        ("Processor\t: AArch64 rev 1\nprocessor\t: 0", "AArch64 rev 1"),
        ("processor\t: 0\nmodel name\t:\nCPU part\t: 0xd0c", None),
        ("", None),
    ],
)
def test_the_name_of_the_cpu(tmp_path, text, name):
    write(tmp_path, {"proc/cpuinfo": text})
    assert read_cpu_name(SystemFiles(tmp_path)) == name


def test_without_sysfs_cpuinfo_is_read(root_of):
    machine = topology(root_of("gvisor"))
    assert [(core.package_id, core.core_id) for core in machine.cores] == [(0, i) for i in range(4)]
    assert nodes_of(machine) == {0: "0-3"}
    notes = " ".join(machine.notes)
    assert "proc/cpuinfo" in notes
    assert "level-3 caches: not described" in notes


def test_cpuinfo_that_names_siblings(tmp_path):
    blocks = [f"processor\t: {cpu}\nphysical id\t: 0\ncore id\t: {cpu % 2}\n" for cpu in range(4)]
    write(tmp_path, {"proc/cpuinfo": "\n".join(blocks)})
    assert topology(tmp_path).smt_siblings(1) == cpus("1,3")


def test_cpuinfo_with_bare_numbers(tmp_path):
    write(tmp_path, {"proc/cpuinfo": "processor : 0\nBogoMIPS : 50\n\nprocessor : 1\n"})
    machine = topology(tmp_path)
    assert machine.online == cpus("0-1")
    assert len(machine.cores) == 2
    assert machine.packages == ()


def test_only_the_affinity_mask(tmp_path):
    write(tmp_path, {"proc/self/status": "Cpus_allowed_list:\t4-6\n"})
    machine = topology(tmp_path)
    assert machine.online == cpus("4-6")
    assert any("affinity mask" in note for note in machine.notes)


def test_nothing_at_all(tmp_path):
    machine = topology(tmp_path)
    assert machine == topology(tmp_path / "no" / "such")
    assert machine.online == cpus("0")
    assert any("one CPU" in note for note in machine.notes)


def test_old_kernels_call_core_cpus_thread_siblings(tmp_path):
    root = build(tmp_path, Machine(cores=2, smt=2))
    for file in root.glob(f"{CPU}/cpu*/topology/core_cpus_list"):
        file.unlink()
    machine = topology(root)
    assert machine.smt_siblings(1) == cpus("1,3")
    assert machine.notes == ()


def test_without_sibling_lists_package_and_core_id_tell(tmp_path):
    root = build(tmp_path, Machine(packages=2, cores=2, smt=2))
    for name in ("core_cpus_list", "thread_siblings_list"):
        for file in root.glob(f"{CPU}/cpu*/topology/{name}"):
            file.unlink()
    machine = topology(root)
    assert machine.smt_siblings(3) == cpus("3,7")
    missing = f"{CPU}/cpu*/topology/thread_siblings_list: missing (CPUs 0-7)"
    assert machine.notes == (missing,)


def test_contradicting_sibling_lists_still_make_a_partition(tmp_path):
    root = build(tmp_path, Machine(cores=3))
    write(root, {f"{CPU}/cpu1/topology/core_cpus_list": "0-1"})
    write(root, {f"{CPU}/cpu2/topology/core_cpus_list": "0-1"})
    machine = topology(root)
    assert [str(core.cpus) for core in machine.cores] == ["0-1", "2"]


def test_ids_that_firmware_left_blank(tmp_path):
    root = build(tmp_path, Machine(cores=2))
    write(root, {f"{CPU}/cpu1/topology/physical_package_id": "-1\n"})
    machine = topology(root)
    assert machine.cpu(1).package_id is None
    assert machine.cpus_of_package(0) == cpus("0")
    assert machine.locality(1) == (-1, 0, 0)


def test_without_the_online_list_each_cpu_is_asked(tmp_path):
    root = build(tmp_path, Machine(cores=4, offline="2"))
    (root / CPU / "online").unlink()
    machine = topology(root)
    assert machine.online == cpus("0-1,3")
    assert [cpu.cpu_id for cpu in machine.cpus] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (f"{CPU}/cpu1/topology/core_id", "zero"),
        (f"{CPU}/cpu1/topology/core_id", "9" * 30),
        (f"{CPU}/cpu1/topology/core_cpus_list", "1-"),
        (f"{CPU}/cpu0/cache/index3/level", ""),
        (f"{CPU}/cpu1/cache/index2/shared_cpu_list", "0"),
        (f"{CPU}/online", "all"),
        ("sys/devices/system/node/node0/cpulist", "#"),
    ],
)
def test_text_that_makes_no_sense_is_noted(tmp_path, path, text):
    root = build(tmp_path, Machine(cores=2))
    write(root, {path: text})
    machine = topology(root)
    assert machine.online == cpus("0-1")
    assert any(Path(path).name in note for note in machine.notes)


def test_unreadable_files_are_noted(tmp_path):
    root = build(tmp_path, Machine(cores=2))
    path = root / CPU / "cpu1" / "topology" / "core_id"
    path.unlink()
    path.mkdir()  # reading it fails also for root, whom no permission stops
    (root / CPU / "cpu0" / "topology" / "core_id").write_bytes(b"\xff\xfe")
    notes = topology(root).notes
    assert f"{CPU}/cpu*/topology/core_id: unreadable: Is a directory (CPUs 1)" in notes
    assert f"{CPU}/cpu*/topology/core_id: unreadable: not text (CPUs 0)" in notes


def test_cpus_of_a_node_that_are_not_online_are_left_out(tmp_path):
    root = build(tmp_path, Machine(cores=2))
    write(root, {"sys/devices/system/node/node0/cpulist": "0-63"})
    assert nodes_of(topology(root)) == {0: "0-1"}


def test_a_cpu_in_no_node(tmp_path):
    root = build(tmp_path, Machine(cores=2))
    write(root, {"sys/devices/system/node/node0/cpulist": "0"})
    assert topology(root).cpu(1).numa_node_id is None


def test_one_cpu_per_core_takes_the_first_allowed_sibling(root_of):
    machine = topology(root_of("2 packages, 2 nodes each, smt2, interleaved"))
    assert machine.one_cpu_per_core(cpus("1,4,16-17,20")) == [4, 16, 1]
    assert machine.one_cpu_per_core([999]) == [999]


def test_a_folder_with_a_number_that_no_cpu_has(tmp_path):
    root = build(tmp_path, Machine(cores=2))
    write(root, {f"{CPU}/cpu99999999999/online": "1"})
    (root / CPU / "present").unlink()
    assert topology(root).online == cpus("0-1")


def test_flat():
    machine = Topology.flat(cpus("2-3,9"))
    assert shape_of(machine) == (3, 3, 1, 1, 0)
    assert machine.online == cpus("2-3,9")


def test_this_machine():
    machine = topology()
    assert machine.online
    assert machine is topology("/")
    assert machine == topology(Path("/"))
