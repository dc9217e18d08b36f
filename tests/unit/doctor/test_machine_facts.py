"""The machine's facts from text, whatever the text holds."""

from __future__ import annotations

import pytest

from corestream.cpu.cpu_set import CPUSet
from corestream.doctor.facts import FrequencyPolicy, Throttling
from corestream.doctor.machine_facts import read_machine
from tests.topologies.builder import Machine, build, cgroup_v1, cgroup_v2, write
from tests.topologies.processes import Process, Thread, process_texts
from tests.unit.doctor.environments import governor


@pytest.mark.parametrize(
    ("version", "stat"),
    [
        (cgroup_v2, "usage_usec 5\nnr_periods 10\nnr_throttled 4\nthrottled_usec 1500000"),
        (cgroup_v1, "nr_periods 10\nnr_throttled 4\nthrottled_time 1500000000"),
    ],
)
def test_throttling_is_read_in_both_versions(tmp_path, version, stat):
    cgroup = version("/a/b", {"/a/b": {"cpu.stat": stat}, "/a": {"cpu.stat": "usage_usec 5"}})
    (found,) = read_machine(build(tmp_path, Machine(cgroup=cgroup))).throttling
    assert (found.num_periods, found.num_throttled, found.throttled_s) == (10, 4, 1.5)
    assert found.path.endswith("/a/b/cpu.stat")


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("cpu  60 0 20 10 0 0 0 10 5 5\ncpu0 1 1 1 1 1 1 1 1\n", 0.1),
        ("cpu  0 0 0 0 0 0 0 0\n", None),
        ("cpu  1 2 3\n", None),
        ("nonsense", None),
    ],
)
def test_steal(tmp_path, text, share):
    root = build(tmp_path, Machine())
    write(root, {"proc/stat": text})
    assert read_machine(root).steal_share == share


def test_cpus_of_one_policy_are_one_line(tmp_path):
    root = build(tmp_path, Machine(cores=6))
    texts = governor("0-3", "performance", "acpi-cpufreq")
    write(root, texts | governor("4-5", "powersave", "intel_pstate", "power"))
    assert read_machine(root).frequency == (
        FrequencyPolicy(
            governor="performance",
            driver="acpi-cpufreq",
            preference=None,
            cpus=CPUSet.parse("0-3"),
        ),
        FrequencyPolicy(
            governor="powersave", driver="intel_pstate", preference="power", cpus=CPUSet([4, 5])
        ),
    )


def test_another_process_counts_with_its_own_cgroup_and_mask(tmp_path):
    limits = {"/theirs": {"cpu.max": "150000 100000", "cpu.stat": "nr_periods 2\nnr_throttled 1"}}
    root = build(tmp_path, Machine(cores=8, cgroup=cgroup_v2("/ours", limits | {"/ours": {}})))
    write(root, process_texts(Process(process_id=9, threads=(Thread(cpus="2-5"),))))
    write(root, {"proc/9/cgroup": "0::/theirs\n"})
    write(root, {"proc/9/mountinfo": (root / "proc/self/mountinfo").read_text()})
    theirs = read_machine(root, process_id=9)
    assert (str(theirs.budget.allowed), theirs.budget.quota) == ("2-5", 1.5)
    assert theirs.throttling == (
        Throttling(
            path="sys/fs/cgroup/theirs/cpu.stat", num_periods=2, num_throttled=1, throttled_s=0.0
        ),
    )
    assert read_machine(root).budget.quota is None


def test_this_machine_is_read():
    facts = read_machine("/")
    assert facts.topology.online
    assert facts.kernel
    assert facts.cpu_flags
