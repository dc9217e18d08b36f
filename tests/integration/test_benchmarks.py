"""The benchmarks run and print their tables; nothing here depends on how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]


def run_benchmarks(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(
        command, cwd=REPO, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.needs_build
def test_overheads_prints_a_verdict_for_each_target_and_saves_it():
    done = run_benchmarks("overheads", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    saved = json.loads((REPO / "benchmarks/results/overheads.json").read_text())
    assert saved["is_quick"] is True
    for row in saved["rows"]:
        assert row["name"] in done.stdout
        assert (row["verdict"] in ("PASS", "FAIL")) == (row["target"] is not None)
    assert sum(row["target"] is not None for row in saved["rows"]) == 5
    assert any(row["name"].startswith("floor") for row in saved["rows"])
    assert done.stdout.count("PASS") + done.stdout.count("FAIL") == 5


def test_an_unknown_name_is_refused_with_the_names_there_are():
    done = run_benchmarks("throughputs")
    assert done.returncode == 2
    assert "got throughputs" in done.stderr
    assert "overheads, idle_team, memory, users, throughput, latency" in done.stderr
