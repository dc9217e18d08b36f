"""Whatever is asked of the launcher: instances never share a CPU, and stay within what is ours."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from corestream.cpu import CPUSet, Topology
from corestream.launch.slots import pick_parts
from tests.topologies.machines import MACHINES
from tests.unit.launch.machines import Known, machine, plan_on, with_quota

COUNTS = st.none() | st.integers(1, 12)
ASKED = st.fixed_dictionaries(
    {"strategy": st.sampled_from(["close", "scatter"])},
    optional={
        "instances": COUNTS,
        "cores_per_instance": COUNTS,
        "latency_mode": st.booleans(),
        "throughput_mode": st.booleans(),
        "node": st.sampled_from(["0", "1", "0-1", "8"]),
        "slice": st.sampled_from(["0/1", "0/2", "1/2", "2/3", "5/7", "auto"]),
        "instance_index": st.sampled_from(["0", "0,2"]),
        "smt": st.booleans(),
        "efficient_cores": st.booleans(),
    },
)


@st.composite
def machines(draw: st.DrawFn) -> Known:
    known = machine(draw(st.sampled_from(sorted(MACHINES))))
    count = draw(st.integers(1, len(known.budget.allowed)))
    return known if draw(st.booleans()) else with_quota(known, count)


@given(machines(), ASKED)
def test_plans_keep_within_the_budget_and_never_overlap(known, asked):
    try:
        plan = plan_on(known, **asked)
    except ValueError:
        return  # what is refused, and how, is in tests/unit/launch/test_placement.py
    cpus = list(plan.cpus)
    assert plan.instances
    assert all(instance.cpus for instance in plan.instances)
    assert len(set(cpus)) == len(cpus)
    assert set(cpus) <= set(known.budget.allowed)
    assert len(cpus) <= known.budget.count
    cores = known.topology.one_cpu_per_core(cpus)
    if not asked.get("smt"):
        assert len(cores) == len(cpus)
    performance = known.topology.cpus_of_type("performance") & known.budget.allowed
    if performance and not asked.get("efficient_cores"):
        in_node = set(performance) & set(cpus)
        assert len(in_node) == len(cpus)
    if asked.get("cores_per_instance"):
        sizes = {len(known.topology.one_cpu_per_core(i.cpus)) for i in plan.instances}
        assert sizes == {asked["cores_per_instance"]}


@given(machines(), st.integers(1, 9), st.booleans())
def test_shares_are_disjoint_and_leave_nothing(known, count, smt):
    whole = plan_on(known, smt=smt)
    num_cores = len(known.topology.one_cpu_per_core(whole.cpus))
    if count > num_cores:
        return
    shares = [plan_on(known, slice=f"{i}/{count}", smt=smt).cpus for i in range(count)]
    assert sorted(chain.from_iterable(shares)) == sorted(whole.cpus)


def straddling(parts: list[tuple[int, ...]], topology: Topology, depth: int) -> int:
    return sum(len({topology.locality(cpu)[:depth] for cpu in part}) > 1 for part in parts)


@given(machines(), st.integers(1, 12), st.booleans(), st.data())
def test_groups_of_one_size_straddle_only_where_it_cannot_be_avoided(known, size, scatter, data):
    topology = known.topology
    free = st.sets(st.sampled_from(sorted(topology.online)), min_size=1)
    cores = topology.one_cpu_per_core(data.draw(free))
    if len(cores) < size:
        return
    count = data.draw(st.integers(1, len(cores) // size))
    parts = pick_parts(cores, [size] * count, topology=topology, scatter=scatter)
    assert [len(part) for part in parts] == [size] * count
    chosen = list(chain.from_iterable(parts))
    assert len(CPUSet(chosen)) == len(chosen)
    assert set(chosen) <= set(cores)
    for depth in (2, 3):
        places = [topology.locality(cpu)[:depth] for cpu in cores]
        fitting = sum(places.count(place) // size for place in set(places))
        assert straddling(parts, topology, depth) == max(0, count - fitting)
