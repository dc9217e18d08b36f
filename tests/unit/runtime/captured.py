"""What tests of captured graphs have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from corestream import CPUPool, Task, _native

# Two to settle, one that captures.
WARM_UP = 3


class Source:
    """What a Task takes in a module's place."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        self.callee = _native.torch_ext.TorchScriptCallee(script)
        self.callee.captures = "always"

    def callee_source(self) -> Any:
        return self.callee


def traced(model: nn.Module, *inputs: Any) -> Source:
    trace: Any = torch.jit.trace
    return Source(torch.jit.freeze(trace(model.eval(), inputs, check_trace=False)))


def caller(source: Source, num_cores: int = 1) -> Callable[..., Any]:
    task = Task(source, CPUPool(CPUPool().core_ids[:num_cores]))

    def call(*inputs: Any) -> Any:
        with torch.inference_mode():
            return task(*inputs).get()

    return call


def uncaptured(source: Source, call: Callable[[], Any]) -> Any:
    source.callee.captures = "never"
    try:
        return call()
    finally:
        source.callee.captures = "always"


def check_done_again(
    model: nn.Module,
    inputs: Callable[[int], tuple[Any, ...]],
    *,
    num_cores: int,
    **tolerances: float,
) -> None:
    """A captured model does what the operators do, to the bit, and is right, whatever comes.

    Args:
        model: Of one output.
        inputs: Those of a seed.
        num_cores: Of the stream.
        tolerances: Those of ``torch.testing.assert_close`` against the model itself.
    """
    source = traced(model, *inputs(0))
    call = caller(source, num_cores)
    for _ in range(WARM_UP):
        call(*inputs(0))
    before = source.callee.num_captured_runs
    for seed in range(5):
        found = call(*inputs(seed))
        assert torch.equal(found, uncaptured(source, lambda seed=seed: call(*inputs(seed))))
        torch.testing.assert_close(found, model(*inputs(seed)), **tolerances)
    assert source.callee.num_captured_runs == before + 5
