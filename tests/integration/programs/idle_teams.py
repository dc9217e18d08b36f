"""idle_teams.py: the main thread's OpenMP team beside a stream's, counted and released."""

from __future__ import annotations

from typing import Any

import support
import torch

import corestream
from corestream.runtime.threads import idle_openmp_threads


def idle_threads() -> int:
    return len(idle_openmp_threads() or {})


def start_releases_the_team() -> dict[str, Any]:
    support.use_torch_in_parallel()
    support.wait_until(lambda: idle_threads() == 1)  # it spins for some ms before it sleeps
    before = support.os_threads()
    with corestream.TaskExecutor(num_streams=1) as executor:
        (stream,) = executor.streams
        audit = executor.audit()
        started = support.os_threads()
    return {
        "threads": [before, started - len(stream.thread_ids)],
        "others": audit.openmp.others,
        "problems": audit.problems,
    }


def parallel_use_throttles(executor: corestream.TaskExecutor) -> dict[str, Any]:
    support.use_torch_in_parallel()
    support.wait_until(lambda: bool(executor.audit().openmp.others))
    throttled, info = executor.audit(), corestream.runtime_info()["openmp"]
    released = corestream.release_idle_team()
    after, info_after = executor.audit(), corestream.runtime_info()["openmp"]
    return {
        "throttled": [throttled.openmp.is_throttled, info["is_throttled"]],
        "others": [throttled.openmp.others, info["other_idle_workers"]],
        "problems": throttled.problems,
        "counted": [info["stream_workers"], info["cpus"]],
        "released": released,
        "throttled_after": [after.openmp.is_throttled, info_after["is_throttled"]],
        "others_after": [after.openmp.others, info_after["other_idle_workers"]],
        "problems_after": after.problems,
    }


def other_threads_team(executor: corestream.TaskExecutor) -> dict[str, Any]:
    """A thread that ends takes its team with it."""
    support.in_new_thread(support.use_torch_in_parallel)
    support.wait_until(lambda: not executor.audit().openmp.others)
    return {"problems": executor.audit().problems}


def calls_open_no_region() -> dict[str, Any]:
    """Splitting and joining 64 MB on the caller's thread makes it no team."""
    torch.set_num_threads(support.TEAM_SIZE)
    streams = corestream.MultiStreamModule(torch.jit.script(torch.nn.Identity()))
    hint = corestream.MultiStreamModuleHint(1)
    columns = corestream.MultiStreamModule(
        torch.jit.script(torch.nn.Identity()), input_split_hint=hint, output_concat_hint=hint
    )
    before = support.os_threads()
    # On a thread that ends, and its team with it.
    large = support.in_new_thread(lambda: torch.arange(2.0**24).reshape(4096, -1))
    with_gaps = large.t()
    support.wait_until(lambda: support.os_threads() == before)
    is_right = bool((streams(large)[-1] == large[-1]).all())
    calls = [streams(large).shape == large.shape, streams(with_gaps).shape == with_gaps.shape]
    calls += [columns(large).shape == large.shape, columns(with_gaps).shape == with_gaps.shape]
    after = support.os_threads()
    parallel = large + 1  # the control: an operator on as much data does make a team
    control = support.os_threads()
    for module in (streams, columns):
        module.executor.shutdown()
    return {
        "is_right": is_right and all(calls) and parallel.numel() > 0,
        "threads": [before, after, control],
    }


def main() -> None:
    corestream.is_runtime_ext_enabled()
    report = {"start": start_releases_the_team()}
    with corestream.TaskExecutor(num_streams=1) as executor:
        report["cpus"] = len(executor.cpu_pool)
        report["use"] = parallel_use_throttles(executor)
        report["thread"] = other_threads_team(executor)
    report["calls"] = calls_open_no_region()
    support.report(report)


if __name__ == "__main__":
    main()
