"""Runs a program of tests/integration/programs in a process of its own.

What is tested here ends, forks or re-binds the whole process, so it cannot happen in pytest's.
A program that hangs is made to print every stack, and its process group is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parent / "programs"
LIMIT_S = 100.0

# What the machine that runs the tests may have set must not decide what they find.
_CLEARED = (
    "GOMP_CPU_AFFINITY",
    "GOMP_SPINCOUNT",
    "KMP_AFFINITY",
    "LD_PRELOAD",
    "OMP_NUM_THREADS",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "OMP_WAIT_POLICY",
)


@dataclass(frozen=True)
class Finished:
    """A program that ended by itself."""

    returncode: int
    stdout: str
    stderr: str

    def report(self) -> Any:
        """The JSON it printed, after checking that it ended well."""
        assert self.returncode == 0, f"exit code {self.returncode}\n{self.stdout}\n{self.stderr}"
        return json.loads(self.stdout)

    def clean_report(self) -> Any:
        """As `report`, and nothing may stand on stderr."""
        report = self.report()
        assert self.stderr == ""
        return report


def start(command: list[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts Python with `command` in a process group of its own, `env` added to the variables."""
    variables = {name: value for name, value in os.environ.items() if name not in _CLEARED}
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *command],
        env=variables | dict(env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> Finished:
    """Waits for the end; a program that takes too long fails the test with its stacks."""
    try:
        stdout, stderr = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)  # faulthandler prints the stacks of every thread
        try:
            stdout, stderr = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
        pytest.fail(f"{process.args} did not end within {LIMIT_S} s\n{stdout}\n{stderr}")
    return Finished(process.returncode, stdout, stderr)


def run(program: str, *args: str, env: Mapping[str, str] | None = None) -> Finished:
    """Runs tests/integration/programs/`program`.py to its end."""
    return finish(start([str(PROGRAMS / f"{program}.py"), *args], env))


def run_code(code: str, *, env: Mapping[str, str] | None = None) -> Finished:
    """Runs Python source to its end."""
    return finish(start(["-c", code], env))
