"""Whatever the kernel's files hold, reading them never raises and never invents a CPU of ours."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from corestream.cpu import CPUSet, allowed_cpus, cpu_budget, topology
from corestream.cpu.gather import gather
from corestream.cpu.placement import choose_cores
from tests.topologies.builder import Machine, build, cgroup_v1, cgroup_v2, write

CPU = "sys/devices/system/cpu"
LIMITS = {
    "cpu.max": "250000 100000",
    "cpuset.cpus.effective": "0-3",
    "cpu.cfs_quota_us": "150000",
    "cpu.cfs_period_us": "100000",
    "cpuset.cpus": "1-2",
}
SHAPES = st.builds(
    Machine,
    packages=st.integers(1, 2),
    nodes=st.integers(1, 2),
    cores=st.integers(1, 2),
    smt=st.integers(1, 2),
    sysfs=st.booleans(),
    node_folder=st.booleans(),
    efficient=st.integers(0, 2),
    affinity=st.sampled_from([None, "hidden", "0-1", "5000"]),
    cgroup=st.sampled_from([{}, cgroup_v1("/a", {"/a": LIMITS}), cgroup_v2("/a", {"/a": LIMITS})]),
)
GARBAGE = st.sampled_from(
    [
        "",
        "\n",
        "-1",
        "0",
        "1",
        "0-1",
        "0-99999",
        "2-1",
        "zero",
        "max",
        "9" * 5000,
        "1 0",
        "\x00",
        "::",
    ]
)


@settings(max_examples=60)
@given(SHAPES, st.data())
def test_broken_machines(shape, data):
    with tempfile.TemporaryDirectory() as folder:
        root = build(Path(folder, "machine"), shape)
        files = sorted(str(f.relative_to(root)) for f in root.rglob("*") if f.is_file())
        for path in data.draw(st.lists(st.sampled_from(files), max_size=6, unique=True)):
            if data.draw(st.booleans()):
                (root / path).unlink()
            else:
                write(root, {path: data.draw(GARBAGE)})
        machine, allowed, budget = topology(root), allowed_cpus(root), cpu_budget(root)
        assert 1 <= budget.count <= len(allowed)
        assert machine.online
        in_nodes = [cpu for node in machine.numa_nodes for cpu in node.cpus]
        assert set(in_nodes) <= set(machine.online)
        in_cores = [cpu for core in machine.cores for cpu in core.cpus]
        assert sorted(in_cores) == list(machine.online)
        assert CPUSet(choose_cores(allowed, budget.count, topology=machine)) <= allowed
        gather(Path(folder, "copy"), root)
        assert topology(Path(folder, "copy")) == machine
        assert cpu_budget(Path(folder, "copy")) == budget
