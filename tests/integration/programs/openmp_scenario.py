"""openmp_scenario.py: pin, tasks, streams, audit, masks and fork under this OpenMP runtime."""

from __future__ import annotations

from typing import Any

import support
import torch

import corestream
from corestream.runtime.threads import read_thread, thread_ids

EXPECTED = support.INPUT * 2 + 1


def pinned() -> dict[str, Any]:
    pool = corestream.CPUPool()
    before = torch.get_num_threads()
    with corestream.pin(pool):
        inside = torch.get_num_threads()
        value = float(torch.zeros(300_000).add_(1).mean())
        main = support.mask()
        new_thread = support.in_new_thread(torch.get_num_threads)
    return {
        "threads": [before, inside, torch.get_num_threads()],
        "pool": list(pool.core_ids),
        "mask_inside": main,
        "mask_outside": support.mask(),
        "value": value,
        "threads_of_a_new_thread": new_thread,
    }


def tasks() -> dict[str, Any]:
    pool = corestream.CPUPool()
    with corestream.TaskExecutor(pool, num_streams=len(pool)) as executor:
        native = corestream.Task(support.scripted(), executor)
        python = corestream.Task(support.Affine().forward, executor)
        futures = [task(support.INPUT) for task in (native, python) for _ in range(20)]
        is_right = all(bool((future.get() == EXPECTED).all()) for future in futures)
        return {"is_right": is_right, "problems": executor.audit().problems}


def stream_of_a_team() -> dict[str, Any]:
    """One stream of all cores, whose model opens parallel regions."""
    large = torch.ones(1000, 1000)  # leaves the main thread a team, which the start releases
    with corestream.TaskExecutor(num_streams=1) as executor:
        outputs = corestream.Task(support.scripted(), executor)(large).get()
        audit = executor.audit()
    is_right = bool((outputs == 3).all())
    return {
        "is_right": is_right,
        "problems": audit.problems,
        "planned": [thread.planned for thread in audit.threads],
        "actual": [thread.actual for thread in audit.threads],
    }


def many_streams() -> dict[str, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 8))
    frozen = torch.jit.freeze(torch.jit.trace(model.eval(), torch.ones(2, 64)))
    x = torch.randn(9, 64)
    streams = corestream.MultiStreamModule(frozen)
    with torch.inference_mode():
        outputs = streams(x)
        problems = streams.executor.audit().problems
        difference = float((outputs - model(x)).abs().max())
    child = support.in_forked_child(lambda: bool((streams(x) - model(x)).abs().max() < 1e-5))
    corestream.release_idle_team()
    streams.executor.shutdown()
    return {"difference": difference, "problems": problems, "child": child}


def masks() -> list[str]:
    return sorted({state.cpus for tid in thread_ids() if (state := read_thread(tid)) is not None})


def main() -> None:
    support.report(
        {
            "pin": pinned(),
            "tasks": tasks(),
            "team": stream_of_a_team(),
            "streams": many_streams(),
            "info": corestream.runtime_info(),
            "masks": masks(),
            "new_thread": support.in_new_thread(support.mask),
        }
    )


if __name__ == "__main__":
    main()
