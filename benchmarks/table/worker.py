"""An entrant's process: loads its model, then measures when it is told to.

``python -m benchmarks.table.worker MODULE:FUNCTION JOB OUTPUT`` calls the function with the job,
runs the model once, writes the outputs to the file OUTPUT and a line of JSON to standard output.
Each number of seconds on standard input is answered by a line with the seconds of its calls.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.table.job import Job, write_arrays
from benchmarks.table.runner import time_runner

PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """It is stopped most of the time, and would stay so for ever if the harness were killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(factory: str, job: Job, output: Path) -> None:
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    os.sched_setaffinity(0, job.core_ids)
    module, function = factory.split(":")
    start = time.monotonic()
    runner = getattr(importlib.import_module(module), function)(job)
    load_s = time.monotonic() - start
    write_arrays(output, runner.outputs())
    print(json.dumps({"load_s": load_s, "notes": runner.notes}), file=answers)
    for line in sys.stdin:
        print(json.dumps(time_runner(runner, seconds=float(line))), file=answers)


if __name__ == "__main__":
    serve(sys.argv[1], Job.from_json(sys.argv[2]), Path(sys.argv[3]))
