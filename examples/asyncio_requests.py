"""Serves concurrent requests from an event loop, with a bounded queue.

Prints:
    32 requests answered, all right: True
    a slow one does not block the loop: TimeoutError
    too many at once: QueueFull
"""

from __future__ import annotations

import asyncio
import threading

import torch

import corestream
from corestream.errors import QueueFull


async def serve(model: torch.jit.ScriptModule) -> None:
    requests = [torch.rand(1, 64) for _ in range(32)]
    with corestream.TaskExecutor(queue_capacity=64) as executor, torch.inference_mode():
        task = corestream.Task(model, executor)
        answers = await asyncio.gather(*(task(request) for request in requests))
        pairs = zip(requests, answers, strict=True)
        is_right = all(torch.allclose(answer, model(request)) for request, answer in pairs)
        print(len(answers), "requests answered, all right:", is_right)

        gate = threading.Event()
        try:
            await asyncio.wait_for(executor.submit(gate.wait), timeout=0.05)
        except TimeoutError as error:
            print("a slow one does not block the loop:", type(error).__name__)
        finally:
            gate.set()


def refuse() -> None:
    gate = threading.Event()
    with corestream.TaskExecutor(queue_capacity=1) as executor:
        try:
            for _ in range(3):  # one runs, one waits, one is refused
                executor.submit(gate.wait)
        except QueueFull as error:
            print("too many at once:", type(error).__name__)
        finally:
            gate.set()


def main() -> None:
    net = torch.nn.Linear(64, 8).eval()
    asyncio.run(serve(torch.jit.freeze(torch.jit.trace(net, torch.rand(1, 64)))))
    refuse()


if __name__ == "__main__":
    main()
