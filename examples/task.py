"""Runs two models at the same time, each on a stream of its own.

Prints:
    both are right: True
    a failed task raises in get(): ValueError
    corestream: raised on stream 0 of ...
"""

from __future__ import annotations

import torch

import corestream


def make_model(features: int) -> torch.jit.ScriptModule:
    net = torch.nn.Sequential(torch.nn.Linear(32, features), torch.nn.ReLU()).eval()
    # A frozen ScriptModule runs without the GIL; an nn.Module would hold it.
    return torch.jit.freeze(torch.jit.trace(net, torch.rand(4, 32)))


def fail() -> None:
    raise ValueError("no such input")


def main() -> None:
    pool = corestream.CPUPool()
    model1, model2, inputs = make_model(8), make_model(16), torch.rand(4, 32)

    with (
        torch.inference_mode(),
        corestream.TaskExecutor(pool, num_streams=min(2, len(pool))) as executor,
    ):
        task1, task2 = corestream.Task(model1, executor), corestream.Task(model2, executor)
        future1, future2 = task1(inputs), task2(inputs)  # both return at once
        is_equal = torch.allclose(future1.get(timeout=60), model1(inputs))
        print("both are right:", is_equal and torch.allclose(future2.get(), model2(inputs)))

        failed = executor.submit(fail).exception(timeout=60)
        print("a failed task raises in get():", type(failed).__name__)

        with corestream.TaskExecutor(corestream.CPUPool(pool.core_ids[:1])) as one_stream:
            print(one_stream.submit(fail).exception(timeout=60).__notes__[0])


if __name__ == "__main__":
    main()
