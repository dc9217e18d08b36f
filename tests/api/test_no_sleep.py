"""Tests meet at barriers and events; a test that sleeps is slow or flaky, and mostly both.

A program that has to outlive something says why: `time.sleep(60)  # sleep-ok: it is killed`.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.api.source_tree import REPO, files, show

# By text, so that programs that tests keep in strings are seen too.
SLEEP = re.compile(r"\b(?:u|nano)?sleep(?:_for|_until)?\s*\((?!\s*0\s*\))")
EXEMPTION = re.compile(r"(?:#|//) sleep-ok: \w+")


def violations(source: str) -> list[int]:
    lines = enumerate(source.splitlines(), start=1)
    return [number for number, line in lines if SLEEP.search(line) and not EXEMPTION.search(line)]


def test_no_test_sleeps():
    here = Path(__file__)
    paths = (path for path in files(REPO / "tests", ".py", ".cpp", ".h") if path != here)
    found = [show(path, line) for path in paths for line in violations(path.read_text())]
    assert found == []


def test_planted_sleeps_are_found():
    assert violations("import time\ntime.sleep(1)\nx = 'sleep(2)'") == [2, 3]
    assert violations("std::this_thread::sleep_for(1ms);\nusleep (5);") == [1, 2]
    assert violations("time.sleep(9)  # sleep-ok:") == [1]
    assert violations("time.sleep(9)  # sleep-ok: killed by the test\nawait asyncio.sleep(0)") == []
