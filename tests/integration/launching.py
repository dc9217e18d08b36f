"""Starts `corestream run` as users do, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.integration.subprograms import Finished, finish

LAUNCHER = [sys.executable, "-X", "faulthandler", "-m", "corestream", "run"]
INSTANCE = str(Path(__file__).parent / "programs" / "instance.py")

# What the machine that runs the tests may have set must not decide what they find.
_CLEARED = (
    "GOMP_CPU_AFFINITY",
    "GOMP_SPINCOUNT",
    "KMP_AFFINITY",
    "LD_PRELOAD",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "OMP_THREAD_LIMIT",
    "OMP_WAIT_POLICY",
    "PYTHONUNBUFFERED",
)


def variables(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process without what would decide, and `env`."""
    kept = {name: value for name, value in os.environ.items() if name not in _CLEARED}
    return kept | dict(env or {})


def begin(*words: str, env: Mapping[str, str] | None = None, **more) -> subprocess.Popen[str]:
    """Starts `corestream run`."""
    return subprocess.Popen(
        [*LAUNCHER, *words],
        env=variables(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )


def launch(*words: str, env: Mapping[str, str] | None = None, **more) -> Finished:
    """Runs `corestream run` to its end."""
    return finish(begin(*words, env=env, **more))
