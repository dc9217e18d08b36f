from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from corestream.cpu import CPUSet
from corestream.cpu.cpu_set import format_cpu_list, parse_cpu_list

IDS = st.lists(st.integers(0, 300) | st.integers(2**31 - 50, 2**31 - 1), max_size=60)


@given(IDS, IDS)
def test_algebra_is_that_of_sets(a, b):
    x, y = CPUSet(a), CPUSet(b)
    assert set(x & y) == set(a) & set(b)
    assert set(x | y) == set(a) | set(b)
    assert set(x - y) == set(a) - set(b)
    assert set(x ^ y) == set(a) ^ set(b)
    assert (x <= y) == (set(a) <= set(b))
    assert (x < y) == (set(a) < set(b))
    assert (x == y) == (set(a) == set(b))
    assert x != y or hash(x) == hash(y)


@given(IDS.filter(bool))
def test_text_round_trip(ids):
    assert CPUSet.parse(str(CPUSet(ids))) == CPUSet(ids)


@given(IDS.filter(bool))
def test_text_round_trip_keeps_order_and_duplicates(ids):
    assert parse_cpu_list(format_cpu_list(ids)) == ids


@given(IDS)
def test_text_is_the_shortest(ids):
    ends = [int(end) for end in re.findall(r"\d+", str(CPUSet(ids)))]
    # No two items could be joined: between one's end and the next one's start an id is missing.
    assert all(b in CPUSet(ids) for b in ends)
    items = str(CPUSet(ids)).split(",") if ids else []
    assert len(items) == sum(1 for i in set(ids) if i - 1 not in set(ids))


@given(st.text(alphabet="0123456789,- \nax", max_size=12))
def test_text_is_either_understood_or_refused_with_a_reason(text):
    reason = ""
    cpus = CPUSet()
    try:
        cpus = CPUSet.parse(text)
    except ValueError as error:
        reason = str(error)
    assert bool(cpus) != bool(reason)
    assert not reason or reason.startswith(("text must be a CPU list", "cpus must be at most"))
    assert not cpus or CPUSet.parse(str(cpus)) == cpus
