"""`cpu_budget`: the cgroup quota of every ancestor, rounded down, at least 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from corestream.cpu import CPUBudget, cpu_budget
from tests.topologies.builder import Machine, build, cgroup_v1, cgroup_v2


def budget_of(root: Path, cgroup: dict[str, str], *, cores: int = 16) -> CPUBudget:
    return cpu_budget(build(root, Machine(cores=cores, cgroup=cgroup)))


@pytest.mark.parametrize(
    ("text", "count", "quota"),
    [
        ("max 100000", 16, None),
        ("max", 16, None),
        ("200000 100000", 2, 2.0),
        ("250000 100000", 2, 2.5),
        ("765000 100000", 7, 7.65),
        ("50000 100000", 1, 0.5),
        ("1000 1000000", 1, 0.001),
        ("3200000 100000", 16, 32.0),
        ("300000", 3, 3.0),
        ("29999 10000", 2, 2.9999),
    ],
)
def test_v2(tmp_path, text, count, quota):
    budget = budget_of(tmp_path, cgroup_v2("/pod/box", {"/pod/box": {"cpu.max": text}}))
    assert (budget.count, budget.quota) == (count, quota)
    assert len(budget.allowed) == 16


@pytest.mark.parametrize(
    ("quota_us", "period_us", "count", "quota"),
    [
        ("-1", "100000", 16, None),
        ("400000", "100000", 4, 4.0),
        ("50000", "100000", 1, 0.5),
        ("150000", "50000", 3, 3.0),
        ("765000", "100000", 7, 7.65),
    ],
)
def test_v1(tmp_path, quota_us, period_us, count, quota):
    files = {"cpu.cfs_quota_us": quota_us, "cpu.cfs_period_us": period_us}
    budget = budget_of(tmp_path, cgroup_v1("/docker/x", {"/docker/x": files}))
    assert (budget.count, budget.quota) == (count, quota)


@pytest.mark.parametrize("tightest", ["", "/a", "/a/b", "/a/b/c"])
def test_every_ancestor_counts_in_v2(tmp_path, tightest):
    limits = {folder: {"cpu.max": "900000 100000"} for folder in ("", "/a", "/a/b", "/a/b/c")}
    limits[tightest] = {"cpu.max": "300000 100000"}
    limits["/a/sibling"] = {"cpu.max": "100000 100000"}
    budget = budget_of(tmp_path, cgroup_v2("/a/b/c", limits))
    assert budget.count == 3
    assert any(f"sys/fs/cgroup{tightest}/cpu.max: 3 CPUs" in reason for reason in budget.reasons)


@pytest.mark.parametrize("tightest", ["", "/a", "/a/b"])
def test_every_ancestor_counts_in_v1(tmp_path, tightest):
    def files(quota_us: int) -> dict[str, str]:
        return {"cpu.cfs_quota_us": str(quota_us), "cpu.cfs_period_us": "100000"}

    limits = {folder: files(-1) for folder in ("", "/a", "/a/b")} | {tightest: files(500_000)}
    assert budget_of(tmp_path, cgroup_v1("/a/b", limits)).count == 5


def test_a_cgroup_namespace_shows_the_container_as_the_top(tmp_path):
    assert budget_of(tmp_path, cgroup_v2("/", {"": {"cpu.max": "200000 100000"}})).count == 2


def test_the_hosts_path_in_a_container(tmp_path):
    files = {"cpu.cfs_quota_us": "200000", "cpu.cfs_period_us": "100000"}
    cgroup = cgroup_v1("/kubepods/pod1/box", {"": files}, shown="/kubepods/pod1/box")
    assert budget_of(tmp_path, cgroup).count == 2


def test_a_path_below_what_the_mount_shows(tmp_path):
    cgroup = cgroup_v2(
        "/slice/job/step", {"/step": {"cpu.max": "200000 100000"}}, shown="/slice/job"
    )
    assert budget_of(tmp_path, cgroup).count == 2


def test_a_path_that_the_container_cannot_see(tmp_path):
    cgroup = cgroup_v2("/system.slice/docker-1.scope", {"": {"cpu.max": "200000 100000"}})
    assert budget_of(tmp_path, cgroup).count == 2


def test_both_versions_mounted(tmp_path):
    """Hybrid hosts keep the controllers in v1 and mount an empty v2 beside them."""
    files = {"cpu.cfs_quota_us": "200000", "cpu.cfs_period_us": "100000"}
    cgroup = cgroup_v1("/x", {"/x": files})
    cgroup["proc/self/cgroup"] += "0::/x\n"
    cgroup["proc/self/mountinfo"] += "41 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    cgroup["sys/fs/cgroup/unified/x/cgroup.procs"] = ""
    assert budget_of(tmp_path, cgroup).count == 2


@pytest.mark.parametrize(
    "text", ["", "many 100000", "-5 100000", "0 100000", "100000 0", "1 2 3", "9" * 400]
)
def test_a_quota_that_makes_no_sense_is_left_out_with_a_reason(tmp_path, text):
    budget = budget_of(tmp_path, cgroup_v2("/", {"": {"cpu.max": text}}))
    assert (budget.count, budget.quota) == (16, None)
    assert any("cpu.max: not a quota" in reason for reason in budget.reasons)


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.cfs_quota_us": "200000"},
        {"cpu.cfs_quota_us": "200000", "cpu.cfs_period_us": "0"},
        {"cpu.cfs_quota_us": "0", "cpu.cfs_period_us": "100000"},
        {"cpu.cfs_quota_us": "-7", "cpu.cfs_period_us": "100000"},
        {"cpu.cfs_quota_us": "some", "cpu.cfs_period_us": "100000"},
    ],
)
def test_a_v1_quota_that_makes_no_sense_is_left_out_with_a_reason(tmp_path, files):
    budget = budget_of(tmp_path, cgroup_v1("/", {"": files}))
    assert budget.quota is None
    assert any("cpu.cfs_" in reason for reason in budget.reasons)


def test_an_unreadable_quota_is_left_out_with_a_reason(tmp_path):
    limits = {"/a/b": {"other": ""}, "/a": {"cpu.max": "400000 100000"}}
    root = build(tmp_path, Machine(cores=16, cgroup=cgroup_v2("/a/b", limits)))
    (root / "sys/fs/cgroup/a/b/cpu.max").mkdir()  # reading it fails also for root
    budget = cpu_budget(root)
    assert budget.count == 4
    assert any("a/b/cpu.max: unreadable" in reason for reason in budget.reasons)


def test_fewer_allowed_cpus_than_quota(tmp_path):
    limits = {"": {"cpu.max": "800000 100000", "cpuset.cpus.effective": "4-6"}}
    budget = budget_of(tmp_path, cgroup_v2("/", limits))
    assert (budget.count, str(budget.allowed), budget.quota) == (3, "4-6", 8.0)


def test_reasons_tell_each_step(tmp_path):
    limits = {"": {"cpu.max": "250000 100000", "cpuset.cpus.effective": "0-7"}}
    assert budget_of(tmp_path, cgroup_v2("/", limits)).reasons == (
        "affinity mask at start-up: 0-15 (16)",
        "cgroup cpuset sys/fs/cgroup/cpuset.cpus.effective: 0-7, leaving 0-7 (8)",
        "cgroup quota sys/fs/cgroup/cpu.max: 2.5 CPUs (250000 us in 100000 us)",
        "CPU budget: 2, the quota of 2.5 CPUs rounded down",
    )


def test_an_empty_folder_has_a_budget_of_one(tmp_path):
    budget = cpu_budget(tmp_path)
    assert (budget.count, budget.quota) == (1, None)


def test_this_process():
    budget = cpu_budget()
    assert 1 <= budget.count <= len(budget.allowed)
    assert budget.reasons[-1].startswith(f"CPU budget: {budget.count}")
