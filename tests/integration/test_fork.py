"""A forked child can use torch, use a pool of its parent's, and end; the parent goes on."""

from __future__ import annotations

import os

import pytest

from tests.integration.subprograms import run

pytestmark = pytest.mark.needs_build

MASK = sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize("state", ["main_unused", "main_used", "pool_idle", "pool_busy"])
@pytest.mark.parametrize("kind", ["script", "python", "multi_stream"])
def test_fork(kind, state):
    report = run("fork_matrix", kind, state).clean_report()
    children = report["children"]
    assert {use: child["exit_code"] for use, child in children.items()} == {
        "torch": 0,
        "pool": 0,
        "exit": 0,
    }
    assert all(child["mask"] == MASK for child in children.values())
    assert children["torch"]["value"] == pytest.approx(report["torch"])
    use = children["pool"]["value"]
    assert (use["is_right"], use["problems"]) == (True, [])
    if state != "pool_busy":
        assert use["of_parent"] == []
    elif kind == "multi_stream":
        assert set(use["of_parent"]) <= {"value", "ForkedFuture"}
    else:
        assert use["of_parent"] == ["ForkedFuture", "ForkedFuture"]
    assert report["parent"] == {"is_right": True, "mask": MASK, "problems": []}


def check_children(report, *, count: int) -> None:
    children = report["children"]
    assert [child["exit_code"] for child in children] == [0] * count
    assert [child["mask"] for child in children] == [MASK] * count


def test_main_used_then_torch_never_hangs():
    report = run("fork_places", "ten_forks_of_a_used_main").clean_report()
    check_children(report, count=10)
    assert [child["value"] for child in report["children"]] == [report["expected"]] * 10


def test_main_used_then_torch_hangs_without_corestream():
    report = run("torch_alone_forks").clean_report()
    assert not report["has_corestream"]
    assert "libgomp" in report["where"]


def test_fork_after_pin_alone():
    report = run("fork_places", "after_pin_alone").clean_report()
    check_children(report, count=1)
    assert report["children"][0]["value"] == report["expected"]


def test_fork_inside_pin():
    report = run("fork_places", "inside_pin").clean_report()
    check_children(report, count=1)
    assert report["children"][0]["value"] == pytest.approx(report["expected"])
    assert report["is_pinned"]
    assert report["outside"] == MASK


@pytest.mark.parametrize("stream", ["with_a_team", "of_one_core", "and_return"])
def test_fork_from_a_stream(stream):
    report = run("fork_places", f"from_a_stream_{stream}").clean_report()
    check_children(report, count=1)
    assert report["children"][0]["value"] == report["expected"]
    assert report["problems"] == []
    assert report["outside"] == MASK


def test_multiprocessing_fork():
    report = run("fork_places", "multiprocessing_fork").clean_report()
    check_children(report, count=2)
    assert [child["value"] for child in report["children"]] == [report["expected"]] * 2


def test_data_loader_workers():
    report = run("fork_places", "data_loader").clean_report()
    check_children(report, count=4)
    values = [child["value"] for child in report["children"]]
    assert values == pytest.approx(report["expected"])
