"""No idle OpenMP team slows the streams unnoticed (libgomp lets none spin beside too many)."""

from __future__ import annotations

import pytest

from tests.integration.subprograms import run

pytestmark = pytest.mark.needs_build


@pytest.fixture(scope="module")
def report():
    return run("idle_teams").clean_report()


def test_an_executor_releases_its_makers_team(report):
    start = report["start"]
    before, without_streams = start["threads"]
    assert without_streams == before - 1
    assert (start["others"], start["problems"]) == ({}, [])


def test_parallel_use_beside_streams_is_reported_and_mended(report):
    use = report["use"]
    of_audit, of_info = use["others"]
    assert of_audit == of_info
    assert list(of_audit.values()) == [1]
    stream_workers, cpus = use["counted"]
    assert stream_workers == report["cpus"] - 1
    is_throttled = 1 + stream_workers + 1 > cpus
    assert use["throttled"] == [is_throttled, is_throttled]
    assert any("release_idle_team()" in text for text in use["problems"]) == is_throttled
    assert use["released"]
    assert use["throttled_after"] == [False, False]
    assert use["others_after"] == [{}, {}]
    assert use["problems_after"] == []


def test_a_thread_that_ends_leaves_no_team(report):
    assert report["thread"]["problems"] == []


def test_calls_open_no_parallel_region_on_the_callers_thread(report):
    calls = report["calls"]
    assert calls["is_right"]
    before, after, control = calls["threads"]
    assert after == before
    assert control == before + 1
