"""Pools that were made, used and dropped leave the process as it was."""

from __future__ import annotations

import os

import pytest

from tests.integration.subprograms import run

pytestmark = pytest.mark.needs_build

MASK = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def report():
    # That the threads are gone is what the program waits for; it would not end otherwise.
    return run("no_trace").clean_report()


@pytest.mark.parametrize("key", ["torch_threads", "new_thread", "environment", "grad_mode"])
def test_unchanged(report, key):
    assert report["before"][key] == report["after"][key]


def test_every_mask_is_the_original(report):
    after = report["after"]
    assert after["mask"] == after["new_thread"][0] == MASK
    assert after["child"] == {"exit_code": 0, "mask": MASK, "value": MASK}
    assert after["worker"] == [MASK]
