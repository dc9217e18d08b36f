"""The threads of a `TaskExecutor`: where they are, what they are called, that they end."""

from __future__ import annotations

import ctypes
import errno
import os
import threading

import pytest
import torch

import corestream
from corestream import CPUPool, TaskExecutor, _native, pin
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.override import override_allowed
from corestream.runtime.threads import read_thread
from tests.unit.runtime.proc import (
    cpus_of,
    name_of,
    on_new_thread,
    simulated_cpus,
    team_of_this_thread,
    thread_ids,
    wait_until,
)

LARGE = 1 << 20


def stream_threads() -> set[int]:
    """Those alive; one that ends between its listing and its reading is not."""
    states = map(read_thread, thread_ids())
    return {state.thread_id for state in states if state and state.name.startswith("cs-")}


def test_one_core_streams_are_pinned(pair):
    for cores in (pair, CPUPool(pair.core_ids[::-1])):
        with TaskExecutor(cores, num_streams=2) as executor:
            masks = [list(map(cpus_of, stream.thread_ids)) for stream in executor.streams]
            assert masks == [[[core_id]] for core_id in cores.core_ids]
            assert [stream.core_ids for stream in executor.streams] == [
                (core_id,) for core_id in cores.core_ids
            ]
            assert [stream.team_size for stream in executor.streams] == [1, 1]


def test_team_of_two_is_pinned_in_the_pools_order(pair):
    for cores in (pair, CPUPool(pair.core_ids[::-1])):
        with TaskExecutor(cores) as executor:
            (stream,) = executor.streams
            assert stream.team_size == 2
            assert [cpus_of(thread) for thread in stream.thread_ids] == [
                [core_id] for core_id in cores.core_ids
            ]
            # What the stream says of itself is what the runtime makes of a region there.
            assert executor.submit(team_of_this_thread).get() == list(stream.thread_ids)
            assert executor.submit(torch.get_num_threads).get() == 2


def test_operators_run_on_the_streams_own_team(pair):
    with TaskExecutor(pair) as executor:
        executor.submit(torch.ones, LARGE).get()
        before = thread_ids()
        assert executor.submit(lambda: torch.ones(LARGE).sum().item()).get() == LARGE
        assert thread_ids() == before
        assert executor.submit(team_of_this_thread).get() == list(executor.streams[0].thread_ids)


def test_threads_are_named(pair):
    with TaskExecutor(pair) as team, TaskExecutor(pair, 2) as streams:
        (stream,) = team.streams
        worker, member = map(name_of, stream.thread_ids)
        assert worker.startswith("cs-e")
        assert worker.endswith("s0")
        assert member == worker + "t1"
        names = [name_of(stream.thread_ids[0]) for stream in streams.streams]
        assert [name[-2:] for name in names] == ["s0", "s1"]
        assert names[0][:-2] == names[1][:-2] != worker[:-2]
        listed = {
            thread for both in (team, streams) for s in both.streams for thread in s.thread_ids
        }
        assert stream_threads() == listed


@pytest.mark.parametrize(
    ("num_streams", "sizes"),
    [(1, [16]), (2, [8, 8]), (3, [6, 5, 5]), (5, [4, 3, 3, 3, 3]), (16, [1] * 16)],
)
def test_more_streams_than_this_machine_has_cpus(num_streams, sizes):
    with simulated_cpus(16), TaskExecutor(CPUPool(), num_streams) as executor:
        streams = executor.streams
        assert [stream.team_size for stream in streams] == sizes
        assert [core_id for stream in streams for core_id in stream.core_ids] == list(range(16))
        members = [thread for stream in streams for thread in stream.thread_ids]
        masks = [_native.core.get_affinity(thread) for thread in members]
        assert masks == [[core_id] for core_id in range(16)]
        assert len(set(members)) == 16
        audit = executor.audit()
        assert all(thread.planned == thread.actual for thread in audit.threads)
        assert [thread.stream for thread in audit.threads] == [
            index for index, size in enumerate(sizes) for _ in range(size)
        ]
        assert executor.submit(torch.get_num_threads).get() in sizes


@pytest.mark.parametrize("num_streams", [1, 2])
def test_audit_of_a_fresh_executor(pair, num_streams):
    def body():
        with TaskExecutor(pair, num_streams) as executor:
            executor.submit(lambda: torch.ones(LARGE).add_(1)).get()
            audit = executor.audit()
            assert audit.is_ok, audit.problems
            assert [(thread.planned, thread.actual) for thread in audit.threads] == [
                (str(core_id), str(core_id)) for core_id in pair.core_ids
            ]
            assert audit.openmp.streams == 2 - num_streams

    on_new_thread(body)


@pytest.mark.parametrize("member", [0, 1])
def test_audit_finds_a_moved_thread_and_repin_mends_it(pair, member):
    with TaskExecutor(pair) as executor:
        thread = executor.streams[0].thread_ids[member]
        os.sched_setaffinity(thread, pair.core_ids)
        audit = executor.audit()
        assert not audit.is_ok
        assert [moved.thread_id for moved in audit.threads if moved.actual != moved.planned] == [
            thread
        ]
        (problem,) = [text for text in audit.problems if str(thread) in text]
        assert "something moved it; call repin()" in problem
        assert f"instead of {pair.core_ids[member]}" in problem
        executor.repin()
        assert cpus_of(thread) == [pair.core_ids[member]]
        assert executor.audit().is_ok


libgomp_only = pytest.mark.skipif(
    _native.core.openmp_runtime()[0] != "libgomp", reason="other runtimes keep their threads"
)


@libgomp_only
@pytest.mark.parametrize(
    ("size", "text"), [(2, "of its team has ended"), (4, "joined its team after the start")]
)
def test_audit_finds_a_changed_team_and_repin_mends_it(size, text):
    with simulated_cpus(4), TaskExecutor(CPUPool([2, 1, 0])) as executor:
        before = executor.streams[0].thread_ids
        library = ctypes.CDLL(_native.core.openmp_runtime()[1])
        nothing = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _data: None)
        executor.submit(library.GOMP_parallel, nothing, None, size, 0).get()
        assert wait_until(lambda: any(text in problem for problem in executor.audit().problems))
        executor.repin()
        (stream,) = executor.streams
        assert stream.thread_ids[:2] == before[:2]
        assert len(set(stream.thread_ids)) == 3
        masks = [_native.core.get_affinity(thread) for thread in stream.thread_ids]
        assert masks == [[2], [1], [0]]
        assert wait_until(lambda: not any("repin" in text for text in executor.audit().problems))


@libgomp_only
def test_audit_finds_an_idle_team(pair):
    def body():
        name = name_of(threading.get_native_id())
        with TaskExecutor(pair) as executor, pin(pair):
            torch.ones(LARGE).add_(1)
            assert wait_until(lambda: executor.audit().openmp.others == {name: 1})
            audit = executor.audit()
            assert audit.openmp.is_throttled == (audit.openmp.cpus < 3)
            assert audit.is_ok != audit.openmp.is_throttled
            throttled = [text for text in audit.problems if "libgomp sleeps" in text]
            assert bool(throttled) == audit.openmp.is_throttled
            assert corestream.release_idle_team()
            assert wait_until(lambda: not executor.audit().openmp.others)

    on_new_thread(body)


@pytest.mark.parametrize("created", [0, 1])
def test_thread_creation_failure_leaves_nothing(pair, created):
    before = stream_threads()
    _native.core.fail_thread_creation_after(created)
    with pytest.raises(OSError, match="cannot start a stream's thread") as caught:
        TaskExecutor(pair, 2)
    assert caught.value.errno == errno.EAGAIN
    assert wait_until(lambda: stream_threads() == before)
    with TaskExecutor(pair, 2) as executor:
        assert executor.submit(max, 1, 2).get() == 2
        assert len(stream_threads()) == 2


def test_refused_core_leaves_nothing(pair):
    before = stream_threads()
    with override_allowed(CPUSet([pair.core_ids[0], 1000])):
        missing = CPUPool([pair.core_ids[0], 1000])
        for num_streams in (1, 2):
            with pytest.raises(OSError, match="1000") as caught:
                TaskExecutor(missing, num_streams)
            assert caught.value.errno == errno.EINVAL
            assert wait_until(lambda: stream_threads() == before)


@pytest.mark.parametrize("num_streams", [1, 2])
def test_process_is_as_before(pair, num_streams):
    corestream.release_idle_team()
    main = os.getpid()
    mask, threads = cpus_of(main), torch.get_num_threads()
    count = len(thread_ids())
    with TaskExecutor(pair, num_streams) as executor:
        executor.submit(lambda: torch.ones(LARGE).add_(1)).get()
        assert cpus_of(main) == mask
        assert torch.get_num_threads() == threads
        assert on_new_thread(torch.get_num_threads) == threads
        assert on_new_thread(lambda: cpus_of(threading.get_native_id())) == mask
    assert wait_until(lambda: len(thread_ids()) == count)
    assert cpus_of(main) == mask
    assert torch.get_num_threads() == on_new_thread(torch.get_num_threads) == threads


def test_process_wide_thread_count_of_the_caller_is_kept(pair):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with TaskExecutor(pair, 2) as executor:
            assert executor.submit(torch.get_num_threads).get() == 1
            assert torch.get_num_threads() == threads + 1
            assert on_new_thread(torch.get_num_threads) == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_executor_made_inside_a_pin(pair):
    def body():
        with pin(pair):
            inside = [cpus_of(thread) for thread in team_of_this_thread()]
            with TaskExecutor(pair, 2) as executor:
                assert executor.submit(torch.get_num_threads).get() == 1
                workers = [stream.thread_ids[0] for stream in executor.streams]
                assert [cpus_of(thread) for thread in workers] == [[c] for c in pair.core_ids]
            assert [cpus_of(thread) for thread in team_of_this_thread()] == inside

    on_new_thread(body)
