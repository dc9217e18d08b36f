"""Threads and OpenMP runtimes are read from /proc, which may say little."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager

import pytest

from corestream.cpu.cpu_set import CPUSet
from corestream.runtime import threads
from corestream.runtime.threads import (
    idle_openmp_threads,
    mapped_openmp_runtimes,
    read_thread,
    thread_ids,
)

STATUS = "Name:\t{name}\nState:\tS (sleeping)\nCpus_allowed:\tf\nCpus_allowed_list:\t{cpus}\n"


@contextmanager
def waiting_thread():
    """The thread id of a thread that waits as long as the block lasts."""
    started, may_end = threading.Barrier(2), threading.Event()

    def run() -> None:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        started.wait()
        may_end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        yield thread.native_id
    finally:
        may_end.set()
        thread.join()


@pytest.fixture
def fake_tasks(tmp_path, monkeypatch):
    """Makes threads of a /proc/self/task: thread id -> (name, what its `syscall` file has)."""

    def make(tasks: dict[int, tuple[str, str | None]]) -> None:
        for thread_id, (name, system_call) in tasks.items():
            folder = tmp_path / str(thread_id)
            folder.mkdir()
            (folder / "status").write_text(STATUS.format(name=name, cpus="0-3"))
            if system_call is not None:
                (folder / "syscall").write_text(system_call)
        monkeypatch.setattr(threads, "_TASKS", tmp_path)
        mappings = [(range(0x1000, 0x2000), "/lib/libgomp.so.1")]
        monkeypatch.setattr(threads, "_openmp_mappings", lambda: mappings)

    return make


def test_thread_ids_are_those_of_this_process():
    with waiting_thread() as thread_id:
        found = thread_ids()
        assert {os.getpid(), thread_id} <= set(found)
        assert found == sorted(found)


def test_a_thread_is_read():
    with waiting_thread() as thread_id:
        state = read_thread(thread_id)
        assert state.thread_id == thread_id
        assert state.cpus == str(max(os.sched_getaffinity(0)))
    assert read_thread(os.getpid()).cpus == str(CPUSet(os.sched_getaffinity(0)))


def test_a_thread_that_ended_is_none():
    # Above the kernel's largest thread id (PID_MAX_LIMIT, 2**22).
    assert read_thread(2**22 + 1) is None


def test_a_name_may_hold_anything(fake_tasks):
    fake_tasks({7: ("cs-e0: s0", None)})
    state = read_thread(7)
    assert (state.name, state.cpus) == ("cs-e0: s0", "0-3")


def test_runtimes_are_mapped_once_each():
    import torch  # noqa: F401 (it loads one)

    found = mapped_openmp_runtimes()
    assert len(found) == len(set(found)) >= 1
    assert all(os.path.isabs(path) for path in found)  # noqa: PTH117 (the answer is text)


def test_idle_threads_stand_inside_the_runtime(fake_tasks):
    fake_tasks(
        {
            1: ("python", "running\n"),
            2: ("python", "202 0x7f 0x80 0x2 0x0 0x0 0x0 0x7ffd 0x1800\n"),  # in libgomp
            3: ("python", "202 0x7f 0x80 0x2 0x0 0x0 0x0 0x7ffd 0x2000\n"),  # just beyond it
            4: ("cs-e0s0t1", "202 0x7f 0x80 0x2 0x0 0x0 0x0 0x7ffd 0x1000\n"),
            5: ("blocked", "-1 0x7ffd 0x1234\n"),  # blocked, but not in a system call
        }
    )
    assert idle_openmp_threads() == {2: "python", 4: "cs-e0s0t1", 5: "blocked"}


def test_a_kernel_that_does_not_tell_is_none(fake_tasks):
    fake_tasks({1: ("python", None), 2: ("python", None)})
    assert idle_openmp_threads() is None


def test_some_unreadable_threads_are_left_out(fake_tasks):
    fake_tasks({1: ("python", None), 2: ("python", "running\n")})
    assert idle_openmp_threads() == {}
