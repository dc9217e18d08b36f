"""Every example runs to its end, in a process of its own, without a warning of ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
# The demo takes minutes by design; tests/integration tests it on a small scale.
EXAMPLES = [path for path in sorted((REPO / "examples").rglob("*.py")) if "demo" not in path.parts]


@pytest.mark.needs_build
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example, tmp_path):
    command = [sys.executable, str(example)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ours = re.compile(r"\bcorestream\b.*Warning")
    assert [line for line in done.stderr.splitlines() if ours.search(line)] == []
