"""Splitting a pool: every cut is a partition of the right sizes, and no cut straddles less."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise, product

from hypothesis import given
from hypothesis import strategies as st

from corestream.cpu import Cache, CPUSet, LogicalCPU, NUMANode, Topology
from corestream.cpu.partition import partition

# Sizes of the L3 domains of each node.
SHAPES = st.lists(
    st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple), min_size=1, max_size=3
).map(tuple)

# (nodes, L3 domains per node, CPUs per domain): what is sold, as opposed to what a cpuset leaves.
REGULAR_SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6)).map(
    lambda sizes: ((sizes[2],) * sizes[1],) * sizes[0]
)


def machine(shape: tuple[tuple[int, ...], ...]) -> Topology:
    cpus, nodes, caches = [], [], []
    for node, domains in enumerate(shape):
        first = len(cpus)
        for size in domains:
            ids = range(len(cpus), len(cpus) + size)
            caches.append(Cache(level=3, kind="unified", size_bytes=None, cpus=CPUSet(ids)))
            cpus += [
                LogicalCPU(
                    cpu_id=cpu,
                    package_id=0,
                    core_id=cpu,
                    numa_node_id=node,
                    l3_index=len(caches) - 1,
                    smt_siblings=CPUSet([cpu]),
                )
                for cpu in ids
            ]
        nodes.append(NUMANode(numa_node_id=node, cpus=CPUSet(range(first, len(cpus)))))
    return Topology(cpus=tuple(cpus), numa_nodes=tuple(nodes), caches=tuple(caches))


@st.composite
def pools(draw: st.DrawFn) -> tuple[tuple[tuple[int, ...], ...], list[int], int]:
    shape = draw(SHAPES)
    ids = draw(st.permutations(range(sum(map(sum, shape)))))
    return shape, ids, draw(st.integers(1, len(ids)))


def straddling(parts: list[tuple[int, ...]], topology: Topology) -> tuple[int, int]:
    places = [{topology.locality(cpu) for cpu in part} for part in parts]
    nodes = sum(len({node for _, node, _ in place}) > 1 for place in places)
    return nodes, sum(len(place) > 1 for place in places)


def counts(cpus: int, big: int, small: int) -> Iterator[tuple[int, int]]:
    """Every number of parts of size `big` and `small` that fit in `cpus` CPUs."""
    for x in range(cpus // big + 1):
        for y in range((cpus - x * big) // small + 1):
            yield x, y


def fewest_straddling(shape: tuple[tuple[int, ...], ...], count: int) -> tuple[int, int]:
    """Try every way to put parts within domains and nodes."""
    small, num_big = divmod(sum(map(sum, shape)), count)
    num_small, big = count - num_big, small + 1

    @cache
    def most_in_l3(domains: tuple[int, ...], x: int, y: int) -> int:
        most = 0
        for chosen in product(*(list(counts(size, big, small)) for size in domains)):
            xs, ys = sum(c[0] for c in chosen), sum(c[1] for c in chosen)
            most = max(most, min(xs, x) + min(ys, y))
        return most

    best = {(0, 0): 0}
    for domains in shape:
        grown: dict[tuple[int, int], int] = {}
        for (x, y), in_l3 in best.items():
            for more_x, more_y in counts(sum(domains), big, small):
                key = (x + more_x, y + more_y)
                if key[0] <= num_big and key[1] <= num_small:
                    value = in_l3 + most_in_l3(domains, more_x, more_y)
                    grown[key] = max(grown.get(key, 0), value)
        best = grown
    in_node, in_l3 = max((x + y, in_l3) for (x, y), in_l3 in best.items())
    return count - in_node, count - in_l3


@given(pools())
def test_every_cpu_is_in_exactly_one_part_and_the_first_parts_are_one_larger(case):
    shape, ids, count = case
    parts = partition(ids, count, topology=machine(shape))
    assert sorted(cpu for part in parts for cpu in part) == sorted(ids)
    small, num_big = divmod(len(ids), count)
    assert [len(p) for p in parts] == [small + 1] * num_big + [small] * (count - num_big)


@given(pools())
def test_no_cut_straddles_fewer_nodes(case):
    shape, ids, count = case
    topology = machine(shape)
    nodes, l3s = straddling(partition(ids, count, topology=topology), topology)
    fewest = fewest_straddling(shape, count)
    assert nodes == fewest[0]
    assert l3s == 0 or fewest[1] > 0


@given(REGULAR_SHAPES, st.data())
def test_no_cut_of_a_regular_machine_straddles_fewer_l3_domains(shape, data):
    num_cpus = sum(map(sum, shape))
    ids = data.draw(st.permutations(range(num_cpus)))
    count = data.draw(st.integers(1, num_cpus))
    topology = machine(shape)
    parts = partition(ids, count, topology=topology)
    assert straddling(parts, topology) == fewest_straddling(shape, count)


@given(pools())
def test_the_order_of_the_pool_is_kept_where_consecutive_slices_straddle_as_little(case):
    shape, ids, count = case
    topology = machine(shape)
    small, num_big = divmod(len(ids), count)
    ends = [index * small + min(index, num_big) for index in range(count + 1)]
    slices = [tuple(ids[a:b]) for a, b in pairwise(ends)]
    if all(len({topology.locality(cpu) for cpu in part}) == 1 for part in slices):
        assert partition(ids, count, topology=topology) == slices


@given(st.permutations(range(12)), st.integers(1, 12))
def test_one_domain_is_cut_into_consecutive_slices(ids, count):
    parts = partition(ids, count, topology=machine(((12,),)))
    assert [cpu for part in parts for cpu in part] == list(ids)
