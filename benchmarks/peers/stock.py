"""Stock torch: eager, compiled with freezing, and TorchScript frozen."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.peers.torch_job import DTYPES, cast_for, load_inputs, load_model, make_runner
from benchmarks.table.job import Job
from benchmarks.table.runner import Runner


def eager(job: Job) -> Runner:
    torch.set_num_threads(job.num_threads)
    model = cast_for(job, load_model(job))
    return make_runner(model, load_inputs(job, dtype=DTYPES[job.dtype]))


def compiled(job: Job) -> Runner:
    """torch.compile; freezing is switched on by TORCHINDUCTOR_FREEZING in the environment."""
    torch.set_num_threads(job.num_threads)
    model = torch.compile(cast_for(job, load_model(job)))
    return make_runner(model, load_inputs(job, dtype=DTYPES[job.dtype]))


def frozen(job: Job) -> Runner:
    """Trace, freeze and `optimize_for_inference`, which packs convolutions for oneDNN."""
    torch.set_num_threads(job.num_threads)
    model = cast_for(job, load_model(job))
    inputs = load_inputs(job, dtype=DTYPES[job.dtype])
    trace: Any = torch.jit.trace
    with torch.no_grad():
        script = torch.jit.freeze(trace(model, inputs, check_trace=False))
    try:
        with torch.no_grad():
            optimized = torch.jit.optimize_for_inference(script)
        return make_runner(optimized, inputs)
    except RuntimeError as error:
        # It has no packed convolutions in bf16, and some of its rewrites do not run.
        script = torch.jit.freeze(trace(model, inputs, check_trace=False))
        reason = str(error).strip().splitlines()[-1]
        return make_runner(script, inputs, notes={"optimize_for_inference": reason})
