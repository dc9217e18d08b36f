"""A process's facts from its procfs text, and from a live one."""

from __future__ import annotations

import os
import threading

import pytest

from corestream.cpu.cpu_set import CPUSet
from corestream.doctor.facts import ThreadFacts
from corestream.doctor.process_facts import missing_preloads, read_process, shares, watch
from tests.topologies.builder import write
from tests.topologies.processes import LIBGOMP, Process, Thread, process_texts


def read(root, *processes: Process):
    for process in processes:
        write(root, process_texts(process))
    return read_process(root, processes[0].process_id)


def test_threads_masks_and_libraries(tmp_path):
    worker = Thread(name="cs-0", cpus="3", is_idle_worker=True, started_ticks=7)
    process = Process(
        process_id=12,
        threads=(Thread(name="a (b) c", cpus="0-3"), worker),
        libraries=(LIBGOMP, "/usr/lib/libtcmalloc.so.4", "/lib/libm.so.6"),
        environ={"OMP_NUM_THREADS": "2", "TOKEN": "secret"},
    )
    found = read(tmp_path, process)
    assert found.openmp_runtimes == (LIBGOMP,)
    assert found.allocators == ("/usr/lib/libtcmalloc.so.4",)
    assert found.environ == {"OMP_NUM_THREADS": "2"}
    assert found.mask == CPUSet.parse("0-3")
    assert [(t.thread_id, t.name, str(t.cpus), t.in_openmp) for t in found.threads] == [
        (12, "a (b) c", "0-3", False),
        (13, "cs-0", "3", True),
    ]
    assert found.threads[1].started_ticks == 7


def test_relatives_are_those_of_the_same_command(tmp_path):
    command = ("gunicorn", "app")
    found = read(
        tmp_path,
        Process(process_id=12, parent=5, command=command),
        Process(process_id=13, parent=5, command=command),
        Process(process_id=14, parent=5, command=("sh",)),
        Process(process_id=15, parent=12, command=command, threads=(Thread(started_ticks=9),)),
        Process(process_id=5, parent=1, command=command, threads=(Thread(cpus="0-7"),)),
    )
    assert [s.process_id for s in found.siblings] == [13]
    assert [(c.process_id, c.started_ticks) for c in found.children] == [(15, 9)]
    assert found.mask_before == CPUSet.parse("0-7")


def test_orphans_are_not_one_server(tmp_path):
    orphans = [Process(process_id=number, parent=1) for number in (12, 13)]
    assert read(tmp_path, *orphans).siblings == ()


def test_no_process_is_none(tmp_path):
    assert read_process(tmp_path, 4711) is None


def test_what_may_not_be_seen_is_none(tmp_path):
    found = read(tmp_path, Process(process_id=12, is_readable=False))
    assert (found.openmp_runtimes, found.environ, found.threads[0].in_openmp) == (None, None, None)


@pytest.mark.parametrize(
    "texts",
    [
        {"status": "Cpus_allowed_list:\tx-y\n", "stat": "12 (a"},
        {"status": "no colon", "task/12/status": "", "task/notanumber/status": "Name:\tx\n"},
        {"maps": "garbage\n7f r-xp", "status": "Pid:\t12\n", "environ": "=\0\0A"},
    ],
)
def test_odd_text_never_raises(tmp_path, texts):
    write(tmp_path, {f"proc/12/{name}": text for name, text in texts.items()})
    found = read_process(tmp_path, 12)
    assert found is not None
    assert found.mask is None


def test_shares_are_of_one_cpu():
    def thread(number: int, seconds: float | None) -> ThreadFacts:
        return ThreadFacts(thread_id=number, name="t", cpus=None, cpu_time_s=seconds)

    before = [thread(1, 2.0), thread(2, 5.0), thread(3, None)]
    after = {1: thread(1, 2.5), 3: thread(3, 1.0)}
    assert [t.cpu_share for t in shares(before, after, seconds=0.5)] == [1.0, None, None]


def test_a_busy_thread_of_this_process_is_seen():
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        found = read_process("/", os.getpid())
        watched = {t.thread_id: t for t in watch("/", found, window_s=0.3)}
    finally:
        stop.set()
        thread.join()
    # Others may want the CPU, too; an idle thread uses none at all.
    assert watched[thread.native_id].cpu_share > 0.02


def test_preloads_that_are_not_there(tmp_path):
    here = tmp_path / "libhere.so"
    here.touch()
    preload = f"{here}:/no/such.so libsearched.so:$ORIGIN/lib.so"
    assert missing_preloads({"LD_PRELOAD": preload}) == ("/no/such.so",)
    assert missing_preloads({}) == ()
