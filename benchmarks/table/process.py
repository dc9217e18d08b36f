"""An entrant's process as the harness sees it: stopped but in its turn, never waited for long."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.table.entrants import PEERS, REPO, Entrant
from benchmarks.table.job import Arrays, Job, read_arrays

REASON_CHARS = 300


def prepare_model(
    model: str, folder: Path, *, dtypes: Iterable[str], batches: Iterable[int]
) -> None:
    """Runs benchmarks.table.prepare in a process of its own, as it takes long and much memory."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.table.prepare", model, str(folder)]
    command += [",".join(sorted(set(dtypes))), *map(str, sorted(set(batches)))]
    subprocess.run(command, cwd=REPO, check=True)


class EntrantError(Exception):
    """The process died or hung; the text says which, and its last words."""


class EntrantProcess:
    """Starts the entrant and waits until its model is loaded; it is stopped when this returns.

    Stopped means SIGSTOP: no thread of it spins, whatever its library believes about idleness.

    Args:
        entrant: Whom to start.
        job: What it shall do.
        log: The file that gets what it prints.
        timeout_s: How long loading may take.

    Raises:
        EntrantError: It died or took too long; nothing of it is left.
    """

    def __init__(self, entrant: Entrant, job: Job, *, log: Path, timeout_s: float) -> None:
        self._log, self._buffer = log, b""
        self._output = log.with_suffix(".npz")
        paths = [str(REPO), *(str(PEERS / folder) for folder in entrant.folders)]
        command = [str(entrant.python), "-W", "ignore", "-m", "benchmarks.table.worker"]
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [*command, entrant.factory, job.to_json(), str(self._output)],
                cwd=REPO,
                env={**os.environ, **entrant.environ, "PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # a group, to stop and to end with all it starts
            )
        try:
            facts = self._receive(timeout_s)
            self.load_s, self.notes = float(facts["load_s"]), dict(facts["notes"])
            self._stop()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_ticks(self) -> int:
        """CPU time that it has used so far, as /proc counts it."""
        text = Path(f"/proc/{self.pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()  # the name before it may hold anything
        return int(fields[11]) + int(fields[12])

    def outputs(self) -> Arrays:
        return read_arrays(self._output)

    def measure(self, seconds: float, *, timeout_s: float) -> list[float]:
        """The seconds of the calls of one turn.

        Raises:
            EntrantError: It died or took too long.
        """
        if self._process.stdin is None:
            raise EntrantError("has no standard input")
        self._signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # it has died: reading tells how
            self._process.stdin.write(f"{seconds}\n".encode())
            self._process.stdin.flush()
        samples = self._receive(timeout_s)
        self._stop()
        return [float(sample) for sample in samples]

    def close(self) -> None:
        """Kills it and what it started, and waits for it."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _stop(self) -> None:
        """Returns when the last thread has stopped, or the process has ended."""
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _receive(self, timeout_s: float) -> Any:
        """The next line that it writes."""
        if self._process.stdout is None:
            raise EntrantError("has no standard output")
        descriptor = self._process.stdout.fileno()
        end = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            if not select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
                raise EntrantError(f"hung: no answer in {timeout_s:g} s")
            received = os.read(descriptor, 1 << 16)
            if not received:
                raise EntrantError(f"died with status {self._process.wait()}: {self._last_words()}")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:REASON_CHARS] if lines else "no message"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
