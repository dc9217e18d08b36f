"""``python -m benchmarks.peers.onnx_export JOB PATH``: the model as ONNX, of fixed shape."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from benchmarks.peers.torch_job import load_model
from benchmarks.table.job import Job


def export(job: Job, path: Path) -> None:
    inputs = tuple(torch.from_numpy(array) for array in job.inputs())
    torch.onnx.export(load_model(job), inputs, str(path), dynamo=True, optimize=True)


if __name__ == "__main__":
    export(Job.from_json(sys.argv[1]), Path(sys.argv[2]))
