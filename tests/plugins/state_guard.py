"""Every test, doctest and page of documentation leaves the process as it found it.

Checked are the main thread's affinity mask, the environment, torch's thread count and the number
of corestream's own threads (their names start with "cs-"). What a test changed is put back, so
that one mistake fails one test.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

# pytest writes the first for every phase of a test. Inductor stores the folder it would use anyway
# in the second (torch/_inductor/runtime/cache_dir_utils.py).
IGNORED_VARIABLES = {"PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR"}

THREADS_GONE_WITHIN_S = 5.0


def count_stream_threads() -> int:
    count = 0
    for comm in Path("/proc/self/task").glob("*/comm"):
        try:
            count += comm.read_bytes().startswith(b"cs-")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended after it was listed
    return count


@dataclass(frozen=True)
class ProcessState:
    affinity: frozenset[int]
    environ: dict[str, str]
    torch_threads: int | None
    stream_threads: int

    @classmethod
    def read(cls) -> ProcessState:
        torch = sys.modules.get("torch")
        return cls(
            affinity=frozenset(os.sched_getaffinity(os.getpid())),
            environ={k: v for k, v in os.environ.items() if k not in IGNORED_VARIABLES},
            torch_threads=torch.get_num_threads() if torch else None,
            stream_threads=count_stream_threads(),
        )

    def differences(self, after: ProcessState) -> list[str]:
        found = []
        for field in fields(self):
            old, new = getattr(self, field.name), getattr(after, field.name)
            if field.name == "torch_threads" and None in (old, new):
                continue  # torch was imported by this test
            if old != new:
                found.append(f"{field.name}: {_changed(old, new)}")
        return found

    def restore(self) -> None:
        os.sched_setaffinity(os.getpid(), self.affinity)
        for name in set(os.environ) - set(self.environ) - IGNORED_VARIABLES:
            del os.environ[name]
        os.environ.update(self.environ)
        if self.torch_threads is not None:
            sys.modules["torch"].set_num_threads(self.torch_threads)


def _changed(old: object, new: object) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        return ", ".join(f"{name} {old.get(name)!r} -> {new.get(name)!r}" for name in names)
    return f"{old} -> {new}"


def _await_stream_threads(count: int) -> None:
    # A joined thread stays listed in /proc until the kernel has reaped it.
    if count_stream_threads() <= count:
        return
    gc.collect()  # an executor in a reference cycle ends its threads here
    deadline = time.monotonic() + THREADS_GONE_WITHIN_S
    while count_stream_threads() > count and time.monotonic() < deadline:
        os.sched_yield()


def _seed() -> None:
    random.seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def process_state_unchanged() -> Iterator[None]:
    _seed()
    before = ProcessState.read()
    yield
    _await_stream_threads(before.stream_threads)
    differences = before.differences(ProcessState.read())
    if differences:
        before.restore()
        pytest.fail("the test must leave the process unchanged; " + "; ".join(differences))
