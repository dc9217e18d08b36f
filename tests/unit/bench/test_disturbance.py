"""Counters of a machine that is a folder of text."""

from __future__ import annotations

import os

import pytest

from corestream.bench.disturbance import Counters, Disturbance, mean
from corestream.cpu.cpu_set import CPUSet

TICKS = os.sysconf("SC_CLK_TCK")


def machine(folder, *, stat: str, cpu_stat: str, version: int = 2):
    """A root folder with one cgroup of either version."""
    files = {"proc/stat": stat, "proc/self/cgroup": "0::/app\n"}
    mount = "sys/fs/cgroup"
    kind, options = "cgroup2", "rw"
    if version == 1:
        mount, kind, options = "sys/fs/cgroup/cpu", "cgroup", "rw,cpu"
        files["proc/self/cgroup"] = "3:cpu:/app\n"
    files["proc/self/mountinfo"] = f"1 1 0:1 / /{mount} rw - {kind} cgroup {options}\n"
    files[f"{mount}/app/cpu.stat"] = cpu_stat
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def stat(*, busy: int, idle: int, stolen: int) -> str:
    """Two CPUs of ours with the same counters, and a busy one that is not."""
    cpu = f"{busy} 0 0 {idle} 0 0 0 {stolen} 0 0"
    return f"cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 {cpu}\ncpu1 {cpu}\ncpu2 99999 0 0 0 0 0 0 0 0 0\n"


@pytest.mark.parametrize(
    ("version", "unit"), [(2, "throttled_usec 250000"), (1, "throttled_time 250000000")]
)
def test_what_others_had_of_our_cpus(tmp_path, version, unit):
    cpus = CPUSet([0, 1])
    before = machine(
        tmp_path / "before",
        stat=stat(busy=0, idle=0, stolen=0),
        cpu_stat="nr_periods 5\nnr_throttled 2\n",
        version=version,
    )
    after = machine(
        tmp_path / "after",
        stat=stat(busy=TICKS, idle=2 * TICKS, stolen=TICKS),
        cpu_stat=f"nr_periods 9\nnr_throttled 6\n{unit}\n",
        version=version,
    )
    start = Counters.read(cpus, root=before)
    end = Counters.read(cpus, root=after)
    found = end.since(start, own_cpu_s=1.2)  # of 2 s that the CPUs were busy
    assert found.num_throttled == 4
    assert found.throttled_s == pytest.approx(0.25)
    assert found.stolen_share == pytest.approx(0.25)
    assert found.others_share == pytest.approx(0.1)
    assert end.since(start, own_cpu_s=5).others_share == 0.0  # ticks are coarse


def test_a_kernel_that_tells_nothing(tmp_path):
    counters = Counters.read(CPUSet([0]), root=tmp_path)
    assert counters.since(counters, own_cpu_s=0.0) == Disturbance()
    assert mean([]) == Disturbance()


def test_this_machine_tells():
    counters = Counters.read(CPUSet(os.sched_getaffinity(0)))
    assert counters.total > 0
