"""One engine in a process of its own: reads orders and writes answers, one JSON object a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from encoder import freeze, load_encoder, tokenize
from load import Encode, Load


@contextmanager
def stock(example: torch.Tensor) -> Iterator[Encode]:
    """Stock torch: every user's thread calls the module."""
    yield load_encoder()


@contextmanager
def corestream(example: torch.Tensor) -> Iterator[Encode]:
    """One frozen model, run by one pinned stream per core."""
    import corestream

    model = freeze(load_encoder(), example)
    pool = corestream.CPUPool()
    with corestream.TaskExecutor(pool, num_streams=len(pool)) as executor:
        task = corestream.Task(model, executor)
        task.warm_up(example)
        yield task.run_sync


ENGINES = {"stock torch": stock, "corestream": corestream}


def embed(encode: Encode, requests: list[torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([encode(request) for request in requests])


def main() -> None:
    requests = tokenize(json.loads(sys.stdin.readline()))
    longest = max(requests, key=torch.numel)
    with ENGINES[sys.argv[1]](longest) as encode:
        embeddings = embed(encode, requests)
        write(embeddings.tolist())
        for order in sys.stdin:
            load = Load(encode, requests, **json.loads(order))
            write(
                {
                    "latencies_s": load.latencies_s,
                    "seconds": load.seconds,
                    "memory_mb": psutil.Process().memory_info().rss / 2**20,
                    # What users get at the same time must be what one user gets alone.
                    "max_difference": max(
                        (answer - embeddings[index]).abs().max().item()
                        for index, answer in load.answers.items()
                    ),
                }
            )


def write(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
