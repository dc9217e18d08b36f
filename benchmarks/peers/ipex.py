"""IPEX 2.8 as its documents advise: optimize, trace, freeze; with its MultiStreamModule as well."""

from __future__ import annotations

from typing import Any

import intel_extension_for_pytorch as ipex
import torch

from benchmarks.peers.torch_job import DTYPES, cast_for, load_inputs, load_model, make_runner
from benchmarks.table.job import Job
from benchmarks.table.runner import Runner


def load(job: Job) -> Runner:
    """One instance on all cores."""
    torch.set_num_threads(job.num_threads)
    inputs = load_inputs(job, dtype=DTYPES[job.dtype])
    return make_runner(_frozen(job, inputs), inputs, notes={"ipex": ipex.__version__})


def load_streams(job: Job) -> Runner:
    """One stream per core; the model is traced with as many threads as a stream has."""
    torch.set_num_threads(1)
    inputs = load_inputs(job, dtype=DTYPES[job.dtype])
    part = tuple(tensor[: job.batch // job.num_streams] for tensor in inputs)
    pool = ipex.cpu.runtime.CPUPool(job.core_ids)
    module = ipex.cpu.runtime.MultiStreamModule(
        _frozen(job, part),
        num_streams=job.num_streams,
        cpu_pool=pool,
        input_split_hint=ipex.cpu.runtime.MultiStreamModuleHint(*(0 for _ in inputs)),
    )
    return make_runner(module, inputs, notes={"ipex": ipex.__version__})


def _frozen(job: Job, inputs: tuple[torch.Tensor, ...]) -> Any:
    model = cast_for(job, load_model(job))
    model = ipex.optimize(model, dtype=DTYPES[job.dtype], sample_input=inputs)
    trace: Any = torch.jit.trace
    with torch.no_grad():
        script = torch.jit.freeze(trace(model, inputs, check_trace=False, strict=False))
        for _ in range(2):
            script(*inputs)
    return script
