"""corestream: all cores by a stream or a pinned direct call for latency, else a stream per core."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch

import corestream
from benchmarks import zoo
from benchmarks.peers.torch_job import DTYPES, load_inputs, load_model, make_runner
from benchmarks.table.job import Job, quiet, wait_for_others
from benchmarks.table.runner import Runner
from corestream.lowering.api import lower
from corestream.lowering.model import LoweredModule
from corestream.onednn import keep_tensor_memory


def load(job: Job, *, backend: str = "auto") -> Runner:
    """As many streams as the job says, or in place of one the caller's thread."""
    inputs = load_inputs(job)
    pool = corestream.CPUPool(job.core_ids)
    if job.mode == "throughput" and zoo.MODELS[job.model].is_convolutional:
        # Threads' heaps give large activations back after each call (docs/onednn.md).
        keep_tensor_memory()
    with _quiet_while_timing(job) as progress:
        lowered = lower(
            load_model(job),
            inputs,
            backend=backend,
            dtype=None if job.dtype == "fp32" else DTYPES[job.dtype],
            num_streams=job.num_streams,
            cpu_pool=pool,
            progress=progress,
        )
    if job.mode == "latency" and lowered.backend == "torchscript":
        corestream.pin(pool).__enter__()  # for as long as this process lives
        return make_runner(lowered, inputs, notes=_notes(lowered))
    module = corestream.MultiStreamModule(lowered, job.num_streams, pool)
    with torch.inference_mode():
        module.warm_up(*inputs)
    return make_runner(module, inputs, notes=_notes(lowered))


def _notes(lowered: LoweredModule) -> dict[str, str]:
    """What was kept, and what each candidate took."""
    candidates = lowered.report.candidates
    times = {one.name: one.median_ms for one in candidates if one.median_ms is not None}
    measured = ", ".join(f"{name} {ms:.3g} ms" for name, ms in times.items())
    chosen = lowered.report.chosen
    backend = f"{chosen.backend}, {chosen.variant}" if chosen.variant else chosen.backend
    return {"backend": backend, "measured": measured}


@contextmanager
def _quiet_while_timing(job: Job) -> Iterator[Callable[[str, float], object]]:
    """Waits for the other entrants when AOTInductor's compilation, the longest step, is over.

    From then on what is timed decides the whole row: layers as they are traced, candidates after.
    """
    with ExitStack() as stack:
        is_quiet = False

        def progress(step: str, _: float) -> None:
            nonlocal is_quiet
            if is_quiet or step.startswith(("running the model", "aotinductor")):
                return
            wait_for_others(job)
            stack.enter_context(quiet(job.around))
            is_quiet = True

        yield progress


def load_one(job: Job) -> Runner:
    """One stream of all cores, whatever the mode."""
    return load(dataclasses.replace(job, num_streams=1))
