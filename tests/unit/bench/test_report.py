"""Rows sum up rounds; verdicts are refused where the noise exceeds the effect."""

from __future__ import annotations

import json

import pytest

from corestream.bench.disturbance import Disturbance
from corestream.bench.report import Turn, judge, make_row
from corestream.measure.load import LoadResult
from tests.unit.bench.reports import QUIET, report, turns

STEADY = [100, 101, 99, 100, 102]


def verdict(ours, stock, *, disturbance=QUIET, is_open=False):
    found = judge(
        "4 users",
        "corestream",
        turns=turns(ours, disturbance=disturbance),
        stock=turns(stock),
        is_open=is_open,
    )
    return found[0]


def test_a_row_sums_up_its_rounds():
    result = LoadResult(4, 1, 2, 2.0, (0.1, 0.2, 0.3, 0.4))
    rounds = [
        Turn(result, Disturbance(2, 0.5, 0.1, 0.2)),
        Turn(result, Disturbance(1, 0.5, 0.3, 0.0)),
    ]
    row = make_row("4 users", "stock", turns=rounds, batch_size=8)
    assert (row.items_per_s, row.items_per_s_low, row.items_per_s_high) == (16.0, 16.0, 16.0)
    assert row.latency_ms == {50: 200.0, 90: 400.0, 99: 400.0, 100: 400.0}
    assert (row.completed, row.failed, row.rejected) == (8, 2, 4)
    assert row.disturbance == Disturbance(3, 1.0, 0.2, 0.1)


@pytest.mark.parametrize(
    ("ours", "stock", "text"),
    [
        ([200, 202, 198, 200, 204], STEADY, "throughput 2 × better than stock"),
        (STEADY, [200, 202, 198, 200, 204], "throughput 2 × worse than stock"),
        (STEADY, STEADY, "no difference beyond noise in throughput (1 ×"),
        ([101, 102, 100, 101, 103], STEADY, "no difference beyond noise"),  # 1 %
        ([130, 80, 130, 80, 130], STEADY, "no difference beyond noise"),  # the noise is larger
    ],
)
def test_verdicts_on_a_quiet_machine(ours, stock, text):
    assert text in verdict(ours, stock).text


def test_what_others_may_have_made_of_it_is_no_difference():
    ours = [130, 131, 129, 130, 132]
    assert verdict(ours, STEADY).is_beyond_noise
    a_third = verdict(ours, STEADY, disturbance=Disturbance(others_share=0.3))
    assert not a_third.is_beyond_noise
    assert "others had 30% of the CPUs" in a_third.text
    far = [900] * 5
    assert verdict(far, STEADY, disturbance=Disturbance(stolen_share=0.3)).is_beyond_noise
    assert not verdict(far, STEADY, disturbance=Disturbance(others_share=0.6)).is_beyond_noise


def test_an_open_loop_is_judged_by_latencies():
    found = judge(
        "70 % load", "corestream", turns=turns([400] * 5), stock=turns([100] * 5), is_open=True
    )
    assert [(one.metric, one.ratio) for one in found] == [
        ("p50", pytest.approx(4.0)),
        ("p99", pytest.approx(4.0)),
    ]


def test_who_answered_nothing_gets_no_verdict():
    nothing = [Turn(LoadResult(0, 3, 0, 1.0, ()), QUIET)] * 5
    (found,) = judge("1 user", "corestream", turns=nothing, stock=turns(STEADY), is_open=False)
    assert found.text == "no verdict on throughput: nothing was answered"
    row = make_row("1 user", "corestream", turns=nothing, batch_size=1)
    assert (row.items_per_s, row.latency_ms[99], row.failed) == (0.0, None, 15)


def test_the_report_goes_through_json():
    values = json.loads(json.dumps(report(stock=STEADY, ours=[2 * r for r in STEADY]).to_dict()))
    mode = values["modes"][0]
    assert mode["verdicts"][0]["text"].startswith("throughput 2 × better")
    assert mode["rows"][0]["latency_ms"]["99"] == pytest.approx(1e3 / 99)
    assert values["problems"] == []
    assert "NaN" not in json.dumps(values)
    assert "Infinity" not in json.dumps(values)


def test_a_demanded_factor():
    twice = report(stock=STEADY, ours=[2 * rate for rate in STEADY])
    assert twice.missed(1.5) == []
    (text,) = twice.missed(3)
    assert text.startswith("realtime throughput must be at least 3 × stock's; got throughput 2 ×")
    noisy = report(stock=STEADY, ours=[130, 80, 130, 80, 130])
    assert noisy.missed(1.2) != []  # more, but not beyond noise
    assert report(stock=STEADY, ours=STEADY).missed(1.0) == []
