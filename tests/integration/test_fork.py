"""A forked child can use torch, use a pool of its parent's, and end; the parent goes on."""

from __future__ import annotations

import os

import pytest

from tests.integration.subprograms import run

pytestmark = pytest.mark.needs_build

MASK = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module", params=["script", "python", "multi_stream"])
def matrix(request):
    """(kind of pool, what its process reports)."""
    return request.param, run("fork_matrix", request.param).clean_report()


@pytest.fixture(scope="module")
def places():
    """What children report that were forked in the order in which the program has its cases."""
    cases = ("ten_forks_of_a_used_main", "multiprocessing_fork", "data_loader")
    return run("fork_places", *cases).clean_report()


@pytest.mark.parametrize("state", ["main_unused", "main_used", "pool_idle", "pool_busy"])
def test_fork(matrix, state):
    kind, report = matrix
    children = report["states"][state]["children"]
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
    parent = report["states"][state]["parent"]
    assert parent == {"is_right": True, "mask": MASK, "problems": []}


def check_children(report, *, count: int) -> None:
    children = report["children"]
    assert [child["exit_code"] for child in children] == [0] * count
    assert [child["mask"] for child in children] == [MASK] * count


def test_main_used_then_torch_never_hangs(places):
    report = places["ten_forks_of_a_used_main"]
    check_children(report, count=10)
    values = [child["value"] for child in report["children"]]
    assert values == pytest.approx([report["expected"]] * 10)


def test_main_used_then_torch_hangs_without_corestream():
    report = run("torch_alone_forks").clean_report()
    assert not report["has_corestream"]
    assert "libgomp" in report["where"]


def test_fork_without_an_executor():
    reports = run("fork_places", "after_pin_alone", "inside_pin").clean_report()
    for report in reports.values():
        check_children(report, count=1)
        assert report["children"][0]["value"] == pytest.approx(report["expected"])
    assert reports["inside_pin"]["is_pinned"]
    assert reports["inside_pin"]["outside"] == MASK


@pytest.mark.parametrize("stream", ["with_a_team", "of_one_core", "and_return"])
def test_fork_from_a_stream(stream):
    case = f"from_a_stream_{stream}"
    report = run("fork_places", case).clean_report()[case]
    check_children(report, count=1)
    assert report["children"][0]["value"] == report["expected"]
    assert report["problems"] == []
    assert report["outside"] == MASK


def test_multiprocessing_fork(places):
    report = places["multiprocessing_fork"]
    check_children(report, count=2)
    values = [child["value"] for child in report["children"]]
    assert values == pytest.approx([report["expected"]] * 2)
    assert report["after"] == report["after_expected"]


def test_data_loader_workers(places):
    report = places["data_loader"]
    check_children(report, count=4)
    values = [child["value"] for child in report["children"]]
    assert values == pytest.approx(report["expected"])
    assert report["after"] == report["after_expected"]
