"""What entrants share that run torch, whichever version: the model, its inputs, its runner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import zoo
from benchmarks.table.job import Arrays, Job
from benchmarks.table.runner import Runner

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WARM_UP_CALLS = 3


def load_model(job: Job) -> nn.Module:
    """The model in fp32 with the weights that all entrants have."""
    model = zoo.build(job.model)
    model.load_state_dict(torch.load(job.path("weights.pt"), mmap=True, weights_only=True))
    return model


def load_inputs(job: Job, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """The inputs in `dtype`; images channels last, as oneDNN's convolutions want them."""
    return tuple(_as(torch.from_numpy(array), dtype) for array in job.inputs())


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def cast_for(job: Job, model: nn.Module) -> nn.Module:
    """The model as a user of stock torch has it: in the dtype, images channels last."""
    model = model.to(DTYPES[job.dtype])
    if zoo.MODELS[job.model].is_convolutional:
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def make_runner(
    call: Callable[..., Any], inputs: tuple[Tensor, ...], *, notes: dict[str, str] | None = None
) -> Runner:
    """A runner of `call(*inputs)` that has run a few times."""

    def run() -> Any:
        with torch.inference_mode():
            return call(*inputs)

    def outputs() -> Arrays:
        return [run().float().contiguous().numpy()]

    for _ in range(WARM_UP_CALLS):
        run()
    return Runner(run, outputs, notes=notes or {})
