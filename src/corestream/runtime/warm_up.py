"""First-call costs, paid on every stream before anybody waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from corestream.runtime.future import Future
from corestream.runtime.split import Arguments

if TYPE_CHECKING:
    from corestream import _torch
    from corestream.runtime.executor import TaskExecutor

# TorchScript profiles the first run of a shape, compiles in the second, and is itself in the third.
WARM_UP_ROUNDS = 3


def warm_streams(
    executor: TaskExecutor,
    *,
    module: Any,
    callee: _torch.Callee,
    calls: Sequence[Arguments],
    streams: Sequence[int] | None = None,
) -> None:
    """Runs the calls on every stream, or on those given, until first-call costs are paid.

    A stream runs one of the calls: the i-th stream the i-th, over and over if there are fewer. If
    `module`, which `callee` runs, is a lowered one, what it compiles by running becomes fast.
    """
    chosen = range(executor.num_streams) if streams is None else streams
    with getattr(module, "specialising", nullcontext)():
        for _ in range(WARM_UP_ROUNDS):
            futures = [
                Future(executor._native.submit(callee, *calls[stream % len(calls)], stream))
                for stream in chosen
            ]
            for future in futures:
                future.get()


def specialise_for_streams(module: Any, executor: TaskExecutor, *, callee: _torch.Callee) -> None:
    """Lets a lowered module compile for the executor's team sizes, where it does so by running.

    A module that was just lowered for such streams has done it, and returns at once.
    """
    specialise = getattr(module, "specialise", None)
    if specialise is None:
        return
    for stream, info in enumerate(executor.streams):

        def run(inputs: Any, stream: int = stream) -> None:
            calls = [(inputs.args, inputs.kwargs)]
            warm_streams(executor, module=module, callee=callee, calls=calls, streams=[stream])

        specialise(run, team_size=info.team_size)
