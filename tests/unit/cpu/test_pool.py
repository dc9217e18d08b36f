from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corestream.cpu import (
    CPUBudget,
    CPUPool,
    CPUSet,
    allowed_cpus,
    cpu_budget,
    get_core_list_of_node_id,
    topology,
)
from corestream.cpu.allowed import override_allowed
from corestream.errors import CorestreamWarning

RootOf = Callable[[str], Path]


@pytest.fixture
def sixteen() -> Iterator[None]:
    with override_allowed(CPUSet(range(16))):
        yield


@pytest.fixture
def on(root_of: RootOf) -> Callable[..., object]:
    @contextmanager
    def pretend(name: str, allowed: str | None = None) -> Iterator[None]:
        root = root_of(name)
        cpus = CPUSet.parse(allowed) if allowed else allowed_cpus(root)
        with override_allowed(cpus, topology(root)):
            yield

    return pretend


def ids(parts: list[CPUPool]) -> list[list[int]]:
    return [part.core_ids for part in parts]


@pytest.mark.parametrize(
    ("core_ids", "expected"),
    [
        ([3, 1, 2], [3, 1, 2]),
        ((5, 4), [5, 4]),
        (range(8, 2, -2), [8, 6, 4]),
        (CPUSet([9, 0]), [0, 9]),
        ({2, 1}, [1, 2]),
        ("0-3", [0, 1, 2, 3]),
        ("8-9,0", [8, 9, 0]),
        ((i for i in (1, 0)), [1, 0]),
    ],
)
@pytest.mark.usefixtures("sixteen")
def test_core_ids_keep_their_order(core_ids, expected):
    pool = CPUPool(core_ids)
    assert pool.core_ids == expected
    assert len(pool) == len(expected)


@pytest.mark.usefixtures("sixteen")
def test_integers_of_other_libraries_become_plain():
    class Index:
        def __index__(self) -> int:
            return 7

    assert type(CPUPool([Index()]).core_ids[0]) is int


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("core_ids", "error", "message"),
    [
        ([], ValueError, "core_ids must name at least one CPU; got"),
        ("", ValueError, "core_ids must be a CPU list that names a CPU; got ''"),
        ("3-1", ValueError, "core_ids must be a CPU list with ascending ranges"),
        ("garbage", ValueError, "core_ids must be a CPU list of decimal ids"),
        ([0, 0], ValueError, "core_ids must be distinct"),
        ("0-3,2", ValueError, "core_ids must be distinct; got '0-3,2'; name 2 once"),
        ([0, -1], ValueError, "core_ids must be made of ids from 0"),
        ([2**31], ValueError, "core_ids must be made of ids from 0"),
        ([16, 17], ValueError, "core_ids must name a CPU that this process may use; got '16-17'"),
        ([True], TypeError, "core_ids must be made of integers; got True"),
        ([1.0], TypeError, "core_ids must be made of integers; got 1.0"),
        (["1"], TypeError, "core_ids must be made of integers; got '1'"),
        ([None], TypeError, "core_ids must be made of integers"),
        (3, TypeError, r"core_ids must be a list, .*; for a single CPU write \[3\]"),
        (True, TypeError, "core_ids must be a list"),
        (1.5, TypeError, "core_ids must be a list"),
        (b"\x00", TypeError, "core_ids must be a list"),
        ({0: 1}, TypeError, "core_ids must be a list"),
    ],
)
def test_wrong_core_ids(core_ids, error, message):
    with pytest.raises(error, match=message):
        CPUPool(core_ids)


@pytest.mark.usefixtures("sixteen")
def test_ids_that_are_not_allowed_are_dropped_with_a_warning_that_names_them():
    with pytest.warns(CorestreamWarning, match=r"dropped 16-17,40; the allowed CPUs are 0-15") as w:
        pool = CPUPool([16, 2, 17, 1, 40])
    assert pool.core_ids == [2, 1]
    assert w[0].filename == __file__


def test_node_id(on):
    with on("epyc, 4 l3s per node"):
        assert CPUPool(node_id=1).core_ids == list(range(32, 64))
        assert CPUPool(None, 0).core_ids == list(range(32))


def test_node_id_is_cut_to_the_allowed_cpus_only(on):
    with on("cpuset 40-79", "50-55,130"):
        assert CPUPool(node_id=1).core_ids == [50, 51, 52, 53, 54, 55]
        assert get_core_list_of_node_id(0) == []
        with pytest.raises(ValueError, match=r"node_id must be a NUMA node with an allowed CPU"):
            CPUPool(node_id=0)


def test_cores_of_a_node(on):
    with on("2 packages, 2 nodes each, smt2, interleaved"):
        assert get_core_list_of_node_id(2) == [1, 3, 5, 7]
    with on("node without cpus"):
        assert get_core_list_of_node_id(8) == [4, 5, 6, 7]
        assert get_core_list_of_node_id(2) == []
    with on("wsl"):
        assert get_core_list_of_node_id(0) == [0, 2, 4, 6]
    with on("hybrid"):
        assert get_core_list_of_node_id(0) == [0, 2, 4, 6, 8, 10, *range(12, 20)]


@pytest.mark.parametrize(
    ("node_id", "error", "message"),
    [
        (1, ValueError, r"node_id must be one of the NUMA nodes \[0, 2, 8, 255\]; got 1"),
        (-1, ValueError, "node_id must be one of the NUMA nodes"),
        (True, TypeError, "node_id must be an integer; got True"),
        (0.0, TypeError, "node_id must be an integer"),
        ("0", TypeError, "node_id must be an integer"),
    ],
)
def test_wrong_node_ids(on, node_id, error, message):
    with on("node without cpus"):
        with pytest.raises(error, match=message):
            CPUPool(node_id=node_id)
        with pytest.raises(error, match=message):
            get_core_list_of_node_id(node_id)


def test_a_node_of_memory_only(on):
    with on("node without cpus"), pytest.raises(ValueError, match="with an allowed CPU; got 2"):
        CPUPool(node_id=2)


@pytest.mark.usefixtures("sixteen")
def test_core_ids_win_over_node_id_with_a_warning():
    with pytest.warns(CorestreamWarning, match="node_id=0 is ignored") as warnings:
        assert CPUPool([3], 0).core_ids == [3]
    assert warnings[0].filename == __file__


@pytest.mark.usefixtures("sixteen")
def test_a_wrong_node_id_is_refused_also_beside_core_ids():
    with pytest.raises(TypeError, match="node_id must be an integer"):
        CPUPool([3], "0")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one cpu", "CPUPool('0')"),
        (
            "2 packages, 2 nodes each, smt2, interleaved",
            "CPUPool('0,2,4,6,8,10,12,14,1,3,5,7,9,11,13,15')",
        ),
        ("cpuset 40-79", "CPUPool('40-79')"),
        ("hybrid", "CPUPool('0,2,4,6,8,10')"),
        ("gvisor", "CPUPool('0-3')"),
        ("more than 1024 cpus", "CPUPool('0-575')"),
    ],
)
def test_default_pool(on, name, expected):
    with on(name):
        pool = CPUPool()
        assert repr(pool) == expected
        assert eval(repr(pool)) == pool


def test_the_default_pool_is_cut_to_the_budget(on, monkeypatch):
    allowed = CPUSet(range(128))
    budget = CPUBudget(count=12, allowed=allowed, quota=12.5, reasons=())
    monkeypatch.setattr("corestream.cpu.pool.cpu_budget", lambda: budget)
    with on("epyc, 4 l3s per node"):
        assert CPUPool().core_ids == list(range(12))
        assert len(CPUPool(node_id=0)) == 32


def test_the_default_pool_of_this_machine():
    pool = CPUPool()
    assert CPUSet(pool.core_ids) <= allowed_cpus()
    assert 1 <= len(pool) <= cpu_budget().count
    cores = [topology().smt_siblings(cpu) for cpu in pool.core_ids]
    assert len(set(cores)) == len(cores)


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("size", "n", "sizes"),
    [(16, 1, [16]), (16, 16, [1] * 16), (16, 3, [6, 5, 5]), (5, 2, [3, 2]), (7, 4, [2, 2, 2, 1])],
)
def test_the_first_parts_are_one_larger(size, n, sizes):
    parts = CPUPool(range(size)).split(n)
    assert [len(part) for part in parts] == sizes
    assert [cpu for part in parts for cpu in part.core_ids] == list(range(size))


@pytest.mark.usefixtures("sixteen")
def test_a_pool_in_one_domain_is_split_in_its_own_order():
    assert ids(CPUPool([9, 3, 7, 1, 5]).split(2)) == [[9, 3, 7], [1, 5]]


@pytest.mark.parametrize(
    ("core_ids", "n", "expected"),
    [
        # One L3 domain each.
        ("0-63", 8, [list(range(i, i + 8)) for i in range(0, 64, 8)]),
        # Half an L3 domain each: all the same.
        ("0-15", 4, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]),
        # Two domains taken alternately come apart again.
        ("0,8,1,9,2,10", 2, [[0, 1, 2], [8, 9, 10]]),
        # 6 + 6 + 6 in three domains of 8; only the fourth must straddle.
        (
            "0-23",
            4,
            [
                [0, 1, 2, 3, 4, 5],
                [6, 7, 14, 15, 22, 23],
                [8, 9, 10, 11, 12, 13],
                [16, 17, 18, 19, 20, 21],
            ],
        ),
        # 3 + 2 CPUs: the larger part comes first although its domain comes second.
        ("0-1,8-10", 2, [[8, 9, 10], [0, 1]]),
        # Nodes come before L3 domains: no part may lie in both packages.
        ("24-31,32-39,0-7,40-47", 2, [[24, 25, 26, 27, 28, 29, 30, 31, 0, 1, 2, 3, 4, 5, 6, 7]]),
    ],
)
def test_parts_keep_within_l3_domains_and_nodes(on, core_ids, n, expected):
    with on("epyc, 4 l3s per node"):
        parts = CPUPool(core_ids).split(n)
    assert ids(parts)[: len(expected)] == expected
    assert sorted(cpu for part in parts for cpu in part.core_ids) == list(CPUSet.parse(core_ids))


def test_parts_of_a_sub_numa_machine_keep_within_nodes(on):
    with on("1 package, 4 nodes"):
        parts = CPUPool(range(23, -1, -1)).split(4)
        assert ids(parts) == [list(range(a, a - 6, -1)) for a in (23, 17, 11, 5)]


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("n", "error"),
    [(0, ValueError), (-1, ValueError), (4, ValueError), (1.0, TypeError), (True, TypeError)],
)
def test_wrong_numbers_of_parts(n, error):
    with pytest.raises(error, match="n must be"):
        CPUPool("0-2").split(n)
    with pytest.raises(error, match="n must be"):
        CPUPool("0-2").slice(0, n)


@pytest.mark.usefixtures("sixteen")
def test_slice_is_the_share_of_one_worker():
    pool = CPUPool(range(10))
    assert [pool.slice(i, 3) for i in range(3)] == pool.split(3)


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("i", "error"), [(-1, ValueError), (2, ValueError), ("0", TypeError), (True, TypeError)]
)
def test_wrong_workers(i, error):
    with pytest.raises(error, match="i must be"):
        CPUPool("0-3").slice(i, 2)


@pytest.mark.usefixtures("sixteen")
def test_equality_is_that_of_the_ordered_ids():
    assert CPUPool([0, 1]) == CPUPool("0-1") == CPUPool(CPUSet([1, 0]))
    assert CPUPool([0, 1]) != CPUPool([1, 0])
    assert CPUPool([0]) != [0]
    assert len({CPUPool([0, 1]), CPUPool("0-1"), CPUPool([1, 0])}) == 2


@pytest.mark.usefixtures("sixteen")
def test_immutable():
    pool = CPUPool("0-3")
    pool.core_ids.append(9)
    assert pool.core_ids == [0, 1, 2, 3]
    with pytest.raises(AttributeError):
        pool.core_ids = [1]
    with pytest.raises(AttributeError, match="immutable"):
        pool._core_ids = (1,)
    with pytest.raises(AttributeError, match="immutable"):
        del pool._core_ids


@pytest.mark.usefixtures("sixteen")
def test_copies():
    pool = CPUPool([3, 1])
    assert pickle.loads(pickle.dumps(pool)) == copy.deepcopy(pool) == pool


def test_a_pickled_pool_is_checked_where_it_arrives():
    with override_allowed(CPUSet(range(4))):
        data = pickle.dumps(CPUPool("0-3"))
    with override_allowed(CPUSet(range(2))), pytest.warns(CorestreamWarning, match="dropped 2-3"):
        assert pickle.loads(data).core_ids == [0, 1]
