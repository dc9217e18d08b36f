"""Kept tensor memory: right results, given back, bounded, safe with threads and forks."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import pytest
import torch

from corestream.onednn import keep_tensor_memory, release_tensor_memory, tensor_memory

MIB = 1 << 20


@pytest.fixture
def limit():
    keep_tensor_memory(64 * MIB)
    yield 64 * MIB
    keep_tensor_memory(0)
    assert (tensor_memory().limit_bytes, tensor_memory().kept_bytes) == (0, 0)


def in_thread(function) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_it_is_off_at_first():
    assert tensor_memory().limit_bytes == 0


def test_freed_memory_is_used_again_and_given_back_on_request(limit):
    before = tensor_memory()
    first = torch.ones(MIB)
    address = first.data_ptr()
    del first
    assert tensor_memory().kept_bytes >= before.kept_bytes + 4 * MIB
    second = torch.zeros(MIB)
    assert second.data_ptr() == address
    assert tensor_memory().reused > before.reused
    assert second.sum() == 0
    del second
    assert release_tensor_memory() >= 4 * MIB
    assert tensor_memory().kept_bytes == 0


def test_tensors_outlive_the_switch_in_both_directions():
    early = torch.ones(MIB)
    conv, images = torch.nn.Conv2d(16, 32, 3, groups=2), torch.randn(16, 16, 40, 40)
    with torch.no_grad():
        expected = conv(images)
        keep_tensor_memory(64 * MIB)
        late = torch.ones(MIB)
        del early
        results = [conv(images) for _ in range(3)]
        keep_tensor_memory(0)
        results.append(conv(images))
        del late
    for result in results:
        torch.testing.assert_close(result, expected, rtol=0, atol=0)
    assert tensor_memory().kept_bytes == 0


def test_what_a_thread_keeps_is_bounded_over_changing_shapes(limit):
    def work() -> None:
        for megabytes in range(1, 40):
            tensors = [torch.ones(megabytes * MIB // 4) for _ in range(3)]
            assert all(tensor[-1] == 1 for tensor in tensors)
            del tensors
            assert tensor_memory().kept_bytes <= 2 * limit  # this thread's and the main one's

    in_thread(work)


def test_a_tensor_larger_than_the_limit_is_not_kept(limit):
    release_tensor_memory()
    torch.ones(limit // 4 + MIB)
    assert tensor_memory().kept_bytes <= limit


def test_a_thread_that_ends_keeps_nothing(limit):
    release_tensor_memory()
    kept, thread_ids = [], []

    def work() -> None:
        torch.ones(MIB)
        kept.append(tensor_memory().kept_bytes)
        thread_ids.append(threading.get_native_id())

    in_thread(work)
    assert kept[0] >= 4 * MIB
    while Path(f"/proc/self/task/{thread_ids[0]}").exists():
        os.sched_yield()  # Python's join returns before the thread has ended
    assert tensor_memory().kept_bytes < kept[0]


def test_threads_free_each_others_tensors(limit):
    handed: list[torch.Tensor] = []
    lock, wrong = threading.Lock(), []

    def work(number: int) -> None:
        for turn in range(200):
            value = number * 1000 + turn
            tensor = torch.full((20_000 + 1000 * (turn % 7),), value)
            with lock:
                handed.append(tensor)
                other = handed.pop(turn % len(handed))
            if not bool((other == other[0]).all()):
                wrong.append(value)
            del tensor, other

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        release_tensor_memory()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_forked_child_goes_on_with_its_own(limit):
    mine = torch.ones(MIB)
    torch.ones(2 * MIB)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        torch.ones(MIB)
        entered.set()
        leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            is_right = float(mine[:8].sum()) == 8
            del mine
            fresh = torch.empty(MIB)
            is_right = is_right and tensor_memory().kept_bytes <= limit
            release_tensor_memory()
            status = 0 if is_right and tensor_memory().kept_bytes == 0 and len(fresh) else 2
        finally:
            os._exit(status)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def page_faults_of(function) -> int:
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    function()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def test_large_tensors_take_no_page_faults_again():
    def work() -> None:
        # More than malloc ever keeps: it maps and unmaps these.
        for _ in range(4):
            torch.empty(16 * MIB).fill_(1)

    found = []

    def measure() -> None:
        work()
        found.append(page_faults_of(work))

    in_thread(measure)
    try:
        keep_tensor_memory(128 * MIB)
        in_thread(measure)
    finally:
        keep_tensor_memory(0)
    without, kept = found
    assert kept < without / 4


WRONG = [(-1, ValueError), (1 << 62, ValueError), (1.5, TypeError), (True, TypeError)]


@pytest.mark.parametrize(("value", "error"), WRONG)
def test_wrong_limits_are_refused(value, error):
    with pytest.raises(error, match="limit_bytes must be"):
        keep_tensor_memory(value)
    assert tensor_memory().limit_bytes == 0
