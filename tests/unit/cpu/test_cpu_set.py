from __future__ import annotations

import copy
import pickle

import pytest

from corestream.cpu import CPUSet


def test_ids_come_in_ascending_order_without_duplicates():
    cpus = CPUSet([8, 0, 3, 0, 1])
    assert list(cpus) == [0, 1, 3, 8]
    assert len(cpus) == 4


def test_algebra():
    a, b = CPUSet([0, 1, 2]), CPUSet([2, 3])
    assert a & b == CPUSet([2])
    assert a | b == CPUSet(range(4))
    assert a - b == CPUSet([0, 1])
    assert a ^ b == CPUSet([0, 1, 3])


def test_comparisons():
    a, b = CPUSet([0, 1]), CPUSet([0, 1, 2])
    assert a <= b
    assert a < b
    assert b >= a
    assert b > a
    assert a <= CPUSet([1, 0])
    assert not a < CPUSet([1, 0])
    assert a != b
    assert a != {0, 1}


@pytest.mark.parametrize(
    "operator", ["__and__", "__or__", "__sub__", "__xor__", "__le__", "__gt__"]
)
def test_only_cpu_sets_combine(operator):
    assert getattr(CPUSet([0]), operator)({0}) is NotImplemented


def test_membership_and_truth():
    assert 3 in CPUSet([3])
    assert 4 not in CPUSet([3])
    assert "3" not in CPUSet([3])
    assert CPUSet([0])
    assert not CPUSet()


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", [0]),
        ("0-3,8", [0, 1, 2, 3, 8]),
        ("8,0-1", [0, 1, 8]),
        ("3-3", [3]),
        ("0-2,1-4", [0, 1, 2, 3, 4]),
        (" 0 , 2-3\n", [0, 2, 3]),
        ("007", [7]),
        ("2147483647", [2147483647]),
    ],
)
def test_parse(text, cpus):
    assert list(CPUSet.parse(text)) == cpus


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "that names a CPU"),
        ("  \n", "that names a CPU"),
        (",", "without empty items"),
        ("0,", "without empty items"),
        ("2-1", "with ascending ranges"),
        ("1-2-3", "whose ranges have two ends"),
        ("-1", "without negative ids"),
        ("0,-1", "without negative ids"),
        ("2147483648", "of ids up to 2147483647"),
        ("0-2147483648", "of ids up to 2147483647"),
        ("9" * 5000, "of ids up to 2147483647"),
        ("0-2147483647", "at most 1048576 CPUs"),
        ("0-600000,0-600000", "at most 1048576 CPUs"),
        ("1-", "of decimal ids and ranges"),
        ("a", "of decimal ids and ranges"),
        ("0x1", "of decimal ids and ranges"),
        ("1.0", "of decimal ids and ranges"),
        ("1 2", "of decimal ids and ranges"),
        ("0-7:2", "of decimal ids and ranges"),
        ("١", "of decimal ids and ranges"),
    ],
)
def test_malformed_text_is_refused_with_the_reason(text, reason):
    with pytest.raises(ValueError, match=reason) as error:
        CPUSet.parse(text)
    assert "must be" in str(error.value)
    assert "; got " in str(error.value)


@pytest.mark.parametrize("text", [None, 3, b"0-3", ["0"]])
def test_parse_takes_only_text(text):
    with pytest.raises(TypeError, match="text must be a string"):
        CPUSet.parse(text)


@pytest.mark.parametrize("cpus", ["0-3", b"\x00"])
def test_the_constructor_takes_no_text(cpus):
    with pytest.raises(TypeError, match=r"use CPUSet\.parse"):
        CPUSet(cpus)


@pytest.mark.parametrize("cpu", [True, 1.0, "1", None])
def test_ids_are_integers(cpu):
    with pytest.raises(TypeError, match="cpus must be made of integers"):
        CPUSet([0, cpu])


@pytest.mark.parametrize("cpu", [-1, 2**31])
def test_ids_are_in_range(cpu):
    with pytest.raises(ValueError, match="cpus must be made of ids from 0 to 2147483647"):
        CPUSet([cpu])


def test_an_endless_iterable_is_refused():
    with pytest.raises(ValueError, match="at most 1048576 CPUs"):
        CPUSet(range(2**31))


@pytest.mark.parametrize(
    ("cpus", "text"), [([], ""), ([5], "5"), ([0, 1], "0-1"), ([0, 2, 3, 4, 9], "0,2-4,9")]
)
def test_text(cpus, text):
    assert str(CPUSet(cpus)) == text


@pytest.mark.parametrize("cpus", [CPUSet(), CPUSet([0, 1, 2, 7])])
def test_repr_evaluates_to_the_set(cpus):
    assert eval(repr(cpus)) == cpus


def test_equal_sets_have_equal_hashes():
    assert len({CPUSet([0, 1]), CPUSet([1, 0]), CPUSet.parse("0-1")}) == 1


def test_immutable():
    cpus = CPUSet([0])
    with pytest.raises(AttributeError, match="immutable"):
        cpus._ids = (1,)
    with pytest.raises(AttributeError, match="immutable"):
        cpus.name = "mine"
    with pytest.raises(AttributeError, match="immutable"):
        del cpus._ids
    assert list(cpus) == [0]


def test_copies_are_equal():
    cpus = CPUSet.parse("0-3,8")
    assert pickle.loads(pickle.dumps(cpus)) == copy.deepcopy(cpus) == cpus
