"""ONNX Runtime: one session with a thread on each core."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import onnxruntime

from benchmarks.table.job import Arrays, Job
from benchmarks.table.runner import Runner


def load(job: Job) -> Runner:
    path = job.path(f"model-{job.batch}.onnx")
    if not path.exists():  # in a process that ends: this one shall have no torch
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers.onnx_export"]
        subprocess.run([*command, job.to_json(), str(path)], check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.num_threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    # An exporter leaves out inputs that the model does not read.
    inputs = dict(zip(names, job.inputs(), strict=False))

    def run() -> Any:
        return session.run(None, inputs)

    def outputs() -> Arrays:
        return list(run())

    for _ in range(3):
        run()
    return Runner(run, outputs, notes={"onnxruntime": onnxruntime.__version__})
