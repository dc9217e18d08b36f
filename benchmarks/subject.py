"""What is measured runs in a process of its own, which waits between its turns.

``python -m benchmarks.subject MODULE:FUNCTION JSON`` calls the function with the JSON object as
keyword arguments; it returns a callable, which is then called once per line of JSON keyword
arguments on standard input, and whose result is written back as a line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

REPO = Path(__file__).parents[1]


class Subject:
    """A process that has set itself up and measures when asked.

    Args:
        factory: "benchmarks.module:function".
        environ: Variables to set in the process, beyond this one's.
        **arguments: The function's keyword arguments.
    """

    def __init__(
        self, factory: str, *, environ: Mapping[str, str] | None = None, **arguments: Any
    ) -> None:
        self._name = f"{factory} {arguments}"
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.subject", factory]
        self._process = subprocess.Popen(
            [*command, json.dumps(arguments)],
            cwd=REPO,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("Popen must make the pipes that were asked for; got none")
        self._requests, self._answers = self._process.stdin, self._process.stdout
        try:
            self._receive()
        except BaseException:
            self.close()
            raise

    def measure(self, **request: Any) -> Any:
        """What the process answers to `request`; it is idle again afterwards."""
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        return self._receive()

    def _receive(self) -> Any:
        line = self._answers.readline()
        if not line:
            code = self._process.wait()
            raise RuntimeError(
                f"a subject must answer; got exit status {code} from {self._name}; "
                f"its error is above"
            )
        return json.loads(line)

    def close(self) -> None:
        """Ends the process and waits for it."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _serve(factory: str, arguments: dict[str, Any]) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    module, function = factory.split(":")
    measure = getattr(importlib.import_module(module), function)(**arguments)
    print("null", file=answers)
    for line in sys.stdin:
        print(json.dumps(measure(**json.loads(line))), file=answers)


if __name__ == "__main__":
    _serve(sys.argv[1], json.loads(sys.argv[2]))
