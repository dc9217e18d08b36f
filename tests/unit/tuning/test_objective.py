"""Objectives as people write them, and what they make of a measurement."""

from __future__ import annotations

import pytest

from corestream.tuning.objective import Objective
from corestream.tuning.setting import Measurement

FAST = Measurement(items_per_s=100.0, p50_ms=10.0, p99_ms=30.0)
PROMPT = Measurement(items_per_s=50.0, p50_ms=5.0, p99_ms=12.0)


@pytest.mark.parametrize(
    ("text", "limit_ms"),
    [("p99<=20 ms", 20.0), ("p99 <= 1.5s", 1500.0), ("P99<20", 20.0), ("p99<=500us", 0.5)],
)
def test_limits_are_read(text, limit_ms):
    objective = Objective.parse(text)
    assert objective.limit_ms == pytest.approx(limit_ms)
    assert Objective.parse(str(objective)) == objective


@pytest.mark.parametrize("text", ["", "p99", "p99<=0 ms", "p99<=1.2.3 ms", "p50<=3 ms", None, 3])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match='objective must be "throughput", "latency" or a limit'):
        Objective.parse(text)


def test_costs_rank_as_wanted():
    assert Objective.parse("throughput").cost(FAST) < Objective.parse("throughput").cost(PROMPT)
    assert Objective.parse("latency").cost(PROMPT) < Objective.parse("latency").cost(FAST)
    both = Objective.parse("p99<=40 ms")
    assert both.cost(FAST) < both.cost(PROMPT)
    one = Objective.parse("p99<=20 ms")
    assert one.cost(PROMPT) < one.cost(FAST)
    none = Objective.parse("p99<=5 ms")
    # Both are too slow: the one that is less so is better.
    assert none.cost(PROMPT) < none.cost(FAST)
    assert not none.is_met(PROMPT)


def test_what_cannot_keep_up_is_worse_than_what_can():
    overrun = Measurement(items_per_s=100.0, p50_ms=1.0, p99_ms=2.0, is_overrun=True)
    for text in ("throughput", "latency", "p99<=20 ms"):
        objective = Objective.parse(text)
        assert objective.cost(overrun, is_open=True) > objective.cost(PROMPT, is_open=True)
        assert not objective.is_met(overrun)


def test_where_requests_come_at_a_rate_the_shorter_p99_wins():
    objective = Objective.parse("p99<=40 ms")
    assert objective.cost(PROMPT, is_open=True) < objective.cost(FAST, is_open=True)
