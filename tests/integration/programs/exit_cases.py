"""exit_cases.py CASE...: ends the interpreter while streams have work, or goes wrong on the way."""

from __future__ import annotations

import atexit
import concurrent.futures
import errno
import os
import re
import signal
import sys
import threading
from typing import Any

import support
import torch

import corestream
from corestream import _native

# Executors that are still there when the interpreter ends: dropping one waits for its work.
kept: list[Any] = []


def start_executor() -> corestream.TaskExecutor:
    executor = corestream.TaskExecutor(num_streams=1)
    kept.append(executor)
    return executor


def spin_until_set(flag: torch.Tensor) -> torch.Tensor:
    # Writing beside the flag keeps TorchScript from reading it once, before the loop.
    while bool(flag[0] == 0):
        flag[1].add_(1)
    return flag


def count_to(limit: torch.Tensor) -> torch.Tensor:
    n = torch.zeros(1)
    while bool(n < limit):
        n = n + 1
    return n


def python_work_at_exit() -> None:
    """Running work ends, queued work is cancelled, and `task` is never shut down."""
    executor = start_executor()
    started, may_end = threading.Event(), threading.Event()

    def running() -> None:
        started.set()
        may_end.wait()
        print("the running task ended", flush=True)

    executor.submit(running)
    queued = [executor.submit(print, "a queued task ran") for _ in range(5)]
    started.wait()
    # The last of them is cancelled by the exit, and its callback lets the running task end.
    queued[-1].add_done_callback(lambda _: may_end.set())


def script_work_at_exit() -> None:
    executor = start_executor()
    task = corestream.Task(torch.jit.script(count_to), executor)
    futures = [task(torch.tensor(20_000.0)) for _ in range(50)]
    support.wait_until(lambda: futures[0].running() or futures[0].done())


def streams_never_shut_down() -> None:
    for _ in range(2):
        streams = corestream.MultiStreamModule(support.scripted())
        kept.append(streams)
        streams(support.INPUT)
        streams.forward_async(support.INPUT)


def exception_in_a_callback() -> None:
    with corestream.TaskExecutor(num_streams=1) as executor:
        future = executor.submit(int, "1")
        called = threading.Event()

        def callback(_: Any) -> None:
            called.set()
            raise LookupError("the callback's own")

        future.add_done_callback(callback)
        called.wait()
        assert (future.get(), executor.submit(int, "2").get()) == (1, 2)


def keyboard_interrupt() -> None:
    """Ctrl-C reaches a main thread that waits in get() for TorchScript; the task goes on."""
    executor = corestream.TaskExecutor(num_streams=1)
    flag = torch.zeros(2)
    future = corestream.Task(torch.jit.script(spin_until_set), executor)(flag)
    support.wait_until(future.running)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        future.get()
    except KeyboardInterrupt:
        print("interrupted")
    flag[0] = 1
    print(future.get()[0].item())
    executor.shutdown()


def unhandled_keyboard_interrupt() -> None:
    executor = start_executor()
    may_end = threading.Event()
    executor.submit(may_end.wait)
    later = executor.submit(print, "a queued task ran")
    later.add_done_callback(lambda _: may_end.set())
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    later.get()


def thread_creation_failure() -> None:
    before = support.os_threads()
    pool = corestream.CPUPool()
    _native.core.fail_thread_creation_after(0)
    try:
        corestream.TaskExecutor(pool, num_streams=1)
    except OSError as error:
        print(error.errno == errno.EAGAIN)
    if len(pool) > 1:
        _native.core.fail_thread_creation_after(1)
        try:
            corestream.MultiStreamModule(support.scripted(), 2, pool)
        except OSError:
            print("the second stream failed")
    else:
        print("there is no second stream")
    # Fewer: a thread of the case before was still ending when they were counted.
    support.wait_until(lambda: support.os_threads() <= before)
    with corestream.TaskExecutor(pool) as executor:
        print(executor.submit(max, 1, 2).get())


class Picky(torch.nn.Module):
    """Raises for the part of the batch that has a negative number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x < 0).any()):
            raise ValueError("negative input")
        return x + 1


def one_stream_raises() -> None:
    streams = corestream.MultiStreamModule(torch.jit.script(Picky()))
    last = streams.get_stream_number() - 1
    x = torch.ones(2 * last + 2, 1)
    x[-1] = -1
    try:
        streams(x)
    except torch.jit.Error as error:
        # Any of them: a stream without work takes a part that another is meant for.
        names_one = re.search(r"on stream \d+ of", error.__notes__[0]) is not None
        print("negative input" in str(error), names_one)
    print(streams(x.abs()).sum().item() == 2 * len(x))


def daemon_waits_at_exit() -> None:
    """A daemon thread waits for a task that the exit cancels, another for one that runs on."""
    executor = start_executor()
    flag = torch.zeros(2)
    running = corestream.Task(torch.jit.script(spin_until_set), executor)(flag)
    queued = executor.submit(int, "1")
    support.wait_until(running.running)
    waiting = threading.Barrier(3)

    def wait_for(future: corestream.Future) -> None:
        waiting.wait()
        concurrent.futures.wait([future])

    for future in (running, queued):
        threading.Thread(target=wait_for, args=(future,), daemon=True).start()
    waiting.wait()
    queued.add_done_callback(lambda _: flag.fill_(1))


def sys_exit_in_a_task() -> None:
    with corestream.TaskExecutor(num_streams=1) as executor:
        future = executor.submit(sys.exit, 5)
        try:
            future.get()
        except SystemExit as error:
            print("SystemExit", error.code)
        print(executor.submit(max, 1, 2).get())


def unhandled_sys_exit_in_a_task() -> None:
    start_executor().submit(sys.exit, 5).get()


def submit_at_exit() -> None:
    """Work handed in by what runs at exit after the streams have ended is refused."""

    def submit() -> None:
        try:
            kept[0].submit(print)
        except corestream.errors.ShutDown:
            print("refused")

    atexit.register(submit)
    start_executor()


if __name__ == "__main__":
    for case in sys.argv[1:]:
        print(f"[{case}]", flush=True)
        globals()[case]()
    print("main ended", flush=True)
