"""The demo's side of a worker process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_WORKER = Path(__file__).with_name("worker.py")


class Engine:
    """A worker process that embeds `sentences` with the engine `name`."""

    def __init__(self, name: str, sentences: list[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._write(sentences)

    def load_up(self, *, users: int, seconds: float) -> dict[str, Any]:
        """What that many concurrent users saw, who asked for that long."""
        self._write({"users": users, "seconds": seconds})
        return self.read()

    def read(self) -> Any:
        """The worker's next answer; the first is the sentences' embeddings."""
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self.name} must answer; got the end of its output")
        return json.loads(line)

    def _write(self, order: object) -> None:
        print(json.dumps(order), file=self._process.stdin, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._process.kill()
        self._process.communicate()
