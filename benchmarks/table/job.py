"""What one entrant has to do. Free of torch: some entrants have no torch, or another one."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

Mode = Literal["latency", "throughput"]
Arrays = list[np.ndarray[Any, Any]]

# The file of a job that the harness holds locked while it loads other entrants beside this one.
LOADING = "loading.lock"


@dataclass(frozen=True, slots=True)
class Job:
    """One model to run in one way.

    Attributes:
        model: Its name in the zoo.
        mode: "latency" or "throughput".
        dtype: What to compute in: "fp32" or "bf16".
        batch: Items of a call.
        core_ids: The cores to run on; one thread on each.
        num_streams: Of those entrants that have streams.
        folder: Where `prepare` has put weights, inputs and expected outputs.
        around: See `Effort.around`; for an entrant that measures by itself while it loads.
    """

    model: str
    mode: Mode
    dtype: str
    batch: int
    core_ids: list[int]
    num_streams: int
    folder: str
    around: list[str] = dataclasses.field(default_factory=list)

    @property
    def num_threads(self) -> int:
        return len(self.core_ids)

    def path(self, name: str) -> Path:
        return Path(self.folder) / name

    def inputs(self) -> Arrays:
        return read_arrays(self.path(f"inputs-{self.batch}.npz"))

    def facts(self) -> dict[str, Any]:
        """Operations of an item, bytes of weights, limits on errors."""
        facts: dict[str, Any] = json.loads(self.path("facts.json").read_text())
        return facts

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


def wait_for_others(job: Job) -> None:
    """Returns when no other entrant is loading; at once if the harness has ended."""
    with job.path(LOADING).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


@contextmanager
def quiet(command: Sequence[str]) -> Iterator[None]:
    """Tells whoever schedules this machine's other work to hold it back meanwhile."""
    if not command:
        yield
        return
    subprocess.run([*command, "begin"], check=True)
    try:
        yield
    finally:
        subprocess.run([*command, "end"], check=True)


def read_arrays(path: Path) -> Arrays:
    with np.load(path) as stored:
        return [stored[f"arr_{index}"] for index in range(len(stored.files))]


def write_arrays(path: Path, arrays: Arrays) -> None:
    np.savez(path, *arrays)
