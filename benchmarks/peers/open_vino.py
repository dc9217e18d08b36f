"""OpenVINO: its latency hint for latency, its throughput hint with a full queue for throughput."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from benchmarks.table.job import Arrays, Job
from benchmarks.table.runner import LONG_CALL_S, Runner

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


def load(job: Job) -> Runner:
    hint = job.mode.upper()
    parts = 1 if job.mode == "latency" else job.num_streams
    batch = job.batch // parts
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": hint,
        "INFERENCE_PRECISION_HINT": PRECISIONS[job.dtype],
        "INFERENCE_NUM_THREADS": job.num_threads,
    }
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": True})
    model = core.compile_model(_converted(job, batch), "CPU", options)
    streams = model.get_property("NUM_STREAMS")
    notes = {"openvino": openvino.__version__.split("-")[0], "streams": str(streams)}
    if job.mode == "latency":
        return _one_request(model, job, notes)
    return _full_queue(model, job, batch, notes)


def _converted(job: Job, batch: int) -> Path:
    path = job.path(f"openvino-{batch}.xml")
    if not path.exists():  # in a process that ends: this one shall have no torch
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers.openvino_convert"]
        subprocess.run([*command, job.to_json(), str(batch), str(path)], check=True)
    return path


def _one_request(model: Any, job: Job, notes: dict[str, str]) -> Runner:
    request = model.create_infer_request()
    inputs = job.inputs()

    def run() -> Any:
        return request.infer(inputs, share_inputs=True, share_outputs=True)

    def outputs() -> Arrays:
        return [np.array(array, dtype=np.float32) for array in run().values()]

    for _ in range(3):
        run()
    return Runner(run, outputs, notes=notes)


def _full_queue(model: Any, job: Job, batch: int, notes: dict[str, str]) -> Runner:
    """As many requests in flight as OpenVINO asks for, each with its part of the batch."""
    queue = openvino.AsyncInferQueue(model)  # sized by OPTIMAL_NUMBER_OF_INFER_REQUESTS
    lasted = [0.0]
    parts = [[array[i : i + batch] for array in job.inputs()] for i in range(0, job.batch, batch)]

    def run() -> None:
        for part in parts:
            queue.start_async(part, share_inputs=True)
        queue.wait_all()

    def run_for(seconds: float) -> list[float]:
        if lasted[0] < LONG_CALL_S:
            run()  # others have used the caches
        clock = time.perf_counter
        start, batches = clock(), 0
        while batches < 2 or clock() - start < seconds:
            for part in parts:
                queue.start_async(part, share_inputs=True)
            batches += 1
        queue.wait_all()
        lasted[0] = (clock() - start) / batches
        return lasted[:]

    def outputs() -> Arrays:
        request = model.create_infer_request()
        answers = [list(request.infer(part).values()) for part in parts]
        return [np.concatenate(arrays).astype(np.float32) for arrays in zip(*answers, strict=True)]

    for _ in range(3):
        run()
    notes["requests"] = f"{len(queue)} of {batch}"
    return Runner(run, outputs, run_for, notes)
