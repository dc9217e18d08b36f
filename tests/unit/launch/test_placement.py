"""Which CPUs the instances of each kind of machine get, and what is refused."""

from __future__ import annotations

import pytest

from tests.unit.launch.machines import cpus_of, flat, machine, plan_on, with_quota

EPYC = "epyc, 4 l3s per node"
SNC = "1 package, 4 nodes"
XEON = "2 packages, 2 nodes each, smt2, interleaved"


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("one cpu", {}, ["0"]),
        (EPYC, {}, ["0-63"]),
        (EPYC, {"instances": 2}, ["0-31", "32-63"]),
        (EPYC, {"throughput_mode": True}, ["0-31", "32-63"]),
        (EPYC, {"instances": 2, "cores_per_instance": 8}, ["0-7", "8-15"]),
        (EPYC, {"instances": 2, "cores_per_instance": 8, "strategy": "scatter"}, ["0-7", "32-39"]),
        (EPYC, {"instances": 4, "cores_per_instance": 3, "strategy": "scatter"},
         ["0-2", "8-10", "32-34", "40-42"]),
        (EPYC, {"node": "1", "instances": 4}, ["32-39", "40-47", "48-55", "56-63"]),
        (EPYC, {"node": "0-1", "instances": 2}, ["0-31", "32-63"]),
        (EPYC, {"slice": "3/4"}, ["48-63"]),
        (EPYC, {"slice": "1/4", "instances": 2}, ["16-23", "24-31"]),
        (EPYC, {"cores_per_instance": 16, "smt": True},
         ["0,64,1,65,2,66,3,67,4,68,5,69,6,70,7,71,8,72,9,73,10,74,11,75,12,76,13,77,14,78,15,79"]),
        (EPYC, {"cpus": "9,8,70", "instances": 3}, ["9", "8", "70"]),
        (EPYC, {"instances": 8, "instance_index": "1,6-7"}, ["8-15", "48-55", "56-63"]),
        # Numbers of neighbouring CPUs lie on different packages.
        (XEON, {"instances": 4}, ["0,2,4,6", "8,10,12,14", "1,3,5,7", "9,11,13,15"]),
        (XEON, {"throughput_mode": True},
         ["0,2,4,6", "8,10,12,14", "1,3,5,7", "9,11,13,15"]),
        # Each of the two nodes' remaining cores cannot hold a third: it would straddle.
        (SNC, {"cores_per_instance": 4}, ["0-3", "6-9", "12-15", "18-21"]),
        (SNC, {"instances": 4, "cores_per_instance": 4}, ["0-3", "6-9", "12-15", "18-21"]),
        (SNC, {"cores_per_instance": 9}, ["0-8", "9-17"]),
        ("holes and offline", {"throughput_mode": True}, ["0-1,4", "5-8"]),
        ("12 nodes", {"throughput_mode": True},
         ["0-1", "2-3", "4-5", "6-7", "8-9", "10-11", "12-13", "14-15", "16-17", "18-19",
          "20-21", "22-23"]),
        ("node without cpus", {"throughput_mode": True}, ["0-3", "4-7"]),
        ("hybrid", {}, ["0,2,4,6,8,10"]),
        ("hybrid", {"efficient_cores": True}, ["0,2,4,6,8,10,12-19"]),
        ("cpuset 40-79", {"throughput_mode": True}, ["40-79"]),
        ("cpuset 40-79", {"latency_mode": True},
         [f"{first}-{first + 3}" for first in range(40, 80, 4)]),
        ("wsl", {"latency_mode": True}, ["0,2,4,6"]),
        ("gvisor", {"instances": 2}, ["0-1", "2-3"]),
    ],
)  # fmt: skip
def test_machines(name, asked, expected):
    plan = plan_on(machine(name), **asked)
    if "smt" in asked:
        expected = [*expected, *cpus_of(plan)[1:]]
        assert len(plan.instances) == 4
    assert cpus_of(plan) == expected


def test_a_smaller_machine_has_smaller_latency_instances():
    assert cpus_of(plan_on(flat(3), latency_mode=True)) == ["0-2"]
    assert cpus_of(plan_on(flat(10), latency_mode=True)) == ["0-3", "4-7"]


def test_cores_that_stay_idle_are_told():
    plan = plan_on(machine(SNC), cores_per_instance=4)
    (note,) = plan.notes
    assert note.startswith("8 cores stay idle: another instance would straddle NUMA nodes; ask")
    assert note.endswith("for 6 instances to use them")
    assert len(plan_on(machine(SNC), cores_per_instance=4, instances=6).instances) == 6


def test_straddling_is_told():
    plan = plan_on(machine(SNC), cores_per_instance=4, instances=6)
    assert plan.notes == ("2 of 6 instances straddle NUMA nodes",)


def test_the_quota_limits_the_cores_and_they_do_not_straddle():
    limited = with_quota(machine(SNC), 8)
    assert cpus_of(plan_on(limited, instances=2)) == ["0-3", "6-9"]
    assert cpus_of(plan_on(limited, cores_per_instance=4)) == ["0-3", "6-9"]
    assert cpus_of(plan_on(limited, instances=3)) == ["0-2", "3-5", "6-7"]
    with pytest.raises(ValueError, match="cores_per_instance must fit in the 8 cores"):
        plan_on(limited, instances=3, cores_per_instance=3)


def test_with_smt_the_quota_counts_cpus():
    limited = with_quota(machine(EPYC), 5)
    assert cpus_of(plan_on(limited, smt=True)) == ["0,64,1,65"]
    assert cpus_of(plan_on(with_quota(machine(EPYC), 1), smt=True)) == ["0"]


def test_named_cpus_may_exceed_the_quota_and_it_is_told():
    plan = plan_on(with_quota(flat(8), 2), cpus="0-3")
    assert cpus_of(plan) == ["0-3"]
    assert "4 CPUs are named, and the CPU budget is 2" in plan.notes[0]


def test_named_cpus_that_the_ledger_has_given_away_are_left_out():
    known = flat(4)
    assert cpus_of(plan_on(known, cpus="0,1", slice="auto", cores_per_instance=1)) == ["0"]
    with pytest.raises(ValueError, match="cpus must be CPUs that may be used; got 4-5 among"):
        plan_on(known, cpus="3-5")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"instances": 0}, "instances must be at least 1; got 0"),
        ({"cores_per_instance": -1}, "cores_per_instance must be at least 1; got -1"),
        ({"instances": 9}, "instances must fit in the 8 cores that may be used; got 9;"),
        ({"cores_per_instance": 9}, "cores_per_instance must fit in the 8 cores"),
        ({"instances": 3, "cores_per_instance": 3}, "got 3 for each of 3 instances"),
        ({"latency_mode": True, "throughput_mode": True}, "latency_mode must be without"),
        ({"latency_mode": True, "instances": 2}, "latency_mode must be without instances"),
        ({"throughput_mode": True, "cores_per_instance": 2}, "throughput_mode must be without"),
        ({"cpus": "0", "node": "0"}, "cpus must be without node; got both"),
        ({"cpus": "0,1,0"}, "cpus must be distinct"),
        ({"cpus": "8"}, "cpus must be CPUs that may be used; got 8 among them"),
        ({"cpus": "x"}, "cpus must be a CPU list"),
        ({"node": "1"}, "node must be among the NUMA nodes 0; got '1'"),
        ({"node": "0-"}, "node must be a CPU list"),
        ({"slice": "2/2"}, r"slice must be auto or i/n with i from 0 to n-1; got '2/2'"),
        ({"slice": "0/0"}, "slice must be auto or i/n"),
        ({"slice": "half"}, "slice must be auto or i/n"),
        ({"slice": "0/9"}, "slice must be of at most the 8 cores"),
        ({"slice": "auto"}, "slice must be i/n unless cores_per_instance is given"),
        ({"instance_index": "2", "instances": 2}, "instance_index must be from 0 to 1"),
        ({"instance_index": "-1"}, "instance_index must be a CPU list without negative ids"),
        ({"module": True, "no_python": True}, "module must be without no_python"),
        ({"grace_s": -1.0}, "grace_s must be from 0 to 86400; got -1.0; 0 kills at once"),
        ({"grace_s": float("inf")}, "grace_s must be from 0 to 86400; got inf"),
        ({"grace_s": float("nan")}, "grace_s must be from 0 to 86400; got nan"),
        ({"log_dir": ""}, "log_dir must name a folder; got ''"),
        ({"spin_count": -1}, "spin_count must be at least 0"),
        ({"log_prefix": "a/b"}, "log_prefix must be the beginning of a file name"),
    ],
)
def test_wrong_options_are_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        plan_on(flat(8), **asked)


def test_a_node_without_allowed_cpus_is_refused():
    with pytest.raises(ValueError, match="node must be a NUMA node with an allowed CPU"):
        plan_on(machine("cpuset 40-79"), node="0")
    with pytest.raises(ValueError, match="node must be a NUMA node with an allowed CPU"):
        plan_on(machine("node without cpus"), node="255")
