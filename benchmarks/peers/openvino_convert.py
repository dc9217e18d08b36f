"""``python -m benchmarks.peers.openvino_convert JOB BATCH PATH``: the model as OpenVINO's IR."""

from __future__ import annotations

import sys
from pathlib import Path

import openvino
import torch

from benchmarks.peers.torch_job import load_model
from benchmarks.table.job import Job


def convert(job: Job, path: Path, *, batch: int) -> None:
    inputs = tuple(torch.from_numpy(array[:batch]) for array in job.inputs())
    shapes = [openvino.PartialShape(list(tensor.shape)) for tensor in inputs]
    model = openvino.convert_model(load_model(job), input=shapes, example_input=inputs)
    openvino.save_model(model, path, compress_to_fp16=False)


if __name__ == "__main__":
    convert(Job.from_json(sys.argv[1]), Path(sys.argv[3]), batch=int(sys.argv[2]))
