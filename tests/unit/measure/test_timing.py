"""Timings are compared round by round; the clock is not asked in any of these tests' verdicts."""

from __future__ import annotations

import pytest

from corestream.measure import Timing, compare_times, is_faster, speedup
from corestream.measure.timing import MIN_ROUNDS


def test_calls_are_made_in_turn():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    timings = compare_times(calls, rounds=4, min_time_s=0.0, budget_s=60)
    assert order == [*"aabbcc", *"abc" * 4]  # two each to warm up
    assert all(timing.rounds == 4 for timing in timings.values())


def test_short_calls_are_repeated_within_a_sample():
    made = []
    compare_times({"short": lambda: made.append(1)}, rounds=1, min_time_s=0.001)
    assert len(made) > 10


def test_a_spent_budget_ends_it_after_the_least_rounds():
    assert compare_times({"a": list}, budget_s=0.0, min_time_s=0.0)["a"].rounds == MIN_ROUNDS


def test_a_slow_call_is_warmed_up_once():
    made = []
    compare_times({"a": lambda: made.append(1)}, budget_s=0.0, min_time_s=0.0)
    assert len(made) == 1 + MIN_ROUNDS


def test_what_a_call_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        compare_times({"a": lambda: 1 / 0})


def test_figures_of_a_timing():
    timing = Timing(tuple(float(i) for i in range(1, 11)))
    assert (timing.median_s, timing.p10_s, timing.p90_s, timing.rounds) == (5.5, 2.0, 10.0, 10)


def test_rounds_on_a_slowing_machine_are_compared_pair_by_pair():
    slowing = [1.0, 2.0, 4.0, 8.0]
    fast, slow = Timing(tuple(slowing)), Timing(tuple(1.5 * s for s in slowing))
    assert speedup(fast, slow) == 1.5
    assert is_faster(fast, slow)
    assert not is_faster(slow, fast)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([1.0, 1.0, 1.0, 1.0], False),  # the same
        ([1.01, 1.01, 1.01, 1.01], False),  # less than the margin
        ([1.05, 1.05, 1.05, 1.05], True),
        ([1.3, 1.3, 0.8, 0.9], False),  # noise
        ([1.3, 1.3, 1.3, 0.5], True),  # one disturbed round
        ([0.9, 0.9, 0.9, 0.9], False),  # slower
    ],
)
def test_faster_means_beyond_noise(ratios, expected):
    timing, baseline = Timing((1.0,) * 4), Timing(tuple(ratios))
    assert is_faster(timing, baseline) == expected


def test_the_margin_can_be_chosen():
    timing, baseline = Timing((1.0,) * 3), Timing((1.1,) * 3)
    assert is_faster(timing, baseline, margin=0.05)
    assert not is_faster(timing, baseline, margin=0.2)
