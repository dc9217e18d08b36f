"""Runs one model on many pinned streams, each with a part of the batch.

Prints:
    one stream per core: True
    the same as one call: True
    batch of 1, of 3, of none: (1, 10) (3, 10) (0, 10)
    every thread is where it should be: True
"""

from __future__ import annotations

import torch

import corestream


def main() -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(7200, 10)
    ).eval()
    batch = torch.rand(8, 3, 32, 32)
    with torch.inference_mode():
        expected = net(batch)
        model = torch.jit.freeze(torch.jit.trace(net, batch))
        streams = corestream.MultiStreamModule(model, num_streams="AUTO")
        streams.warm_up(batch)

        pool = streams.executor.cpu_pool
        print("one stream per core:", streams.get_stream_number() == len(pool))
        print("the same as one call:", torch.allclose(streams(batch), expected, atol=1e-5))
        shapes = [tuple(streams(batch[:size]).shape) for size in (1, 3, 0)]
        print("batch of 1, of 3, of none:", *shapes)

        threads = streams.executor.audit().threads
        is_placed = all(thread.actual == thread.planned for thread in threads)
        print("every thread is where it should be:", is_placed)
        streams.executor.shutdown()


if __name__ == "__main__":
    main()
