"""`Task` on AOTInductor packages: right, parallel, and one copy of the weights."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, wait

import pytest
import torch

from corestream import CPUPool, Task, TaskExecutor, _native, allowed_cpus
from corestream.errors import CorestreamWarning
from tests.unit.runtime.proc import (
    DEADLINE_S,
    TASKS,
    cpu_time_of,
    in_forked_child,
    is_over_without_the_gil,
    wait_until,
)

OPENAT = {"257", "56"}  # on x86-64, on 64-bit ARM

OPTIONS = {"scale": torch.tensor(0.5), "shift": torch.tensor([3.0])}


@pytest.fixture
def load(package):
    return lambda: torch._inductor.aoti_load_package(str(package))


def batch(size: int, projection) -> torch.Tensor:
    return torch.randn(size, projection.size)


def assert_same(result, expected):
    assert result.keys() == expected.keys() == {"y", "sums"}
    # Inductor fuses the norm with the product before it: sums of 2048 terms in another order.
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_path_with_keywords_and_nested_output(single, package, projection):
    x = batch(3, projection)
    with TaskExecutor(single) as executor:
        for path in (package, str(package)):
            task = Task(path, executor)
            assert task.is_native
            result = task.run_sync(x, options=OPTIONS)
            assert_same(result, projection(x, options=OPTIONS))
            assert isinstance(result["sums"]["columns"], list)


@torch.no_grad()
def test_loaded_package(pair, single, load, projection):
    x = batch(2, projection)
    expected = projection(x, options=OPTIONS)
    with TaskExecutor(single) as executor:
        task = Task(load(), executor)
        assert task.is_native
        assert_same(task.run_sync(x, options=OPTIONS), expected)
    with TaskExecutor(pair, 2) as executor:
        with pytest.warns(CorestreamWarning, match="has one model instance, so 2 streams"):
            task = Task(load(), executor)
        for future in [task(x, options=OPTIONS) for _ in range(4)]:
            assert_same(future.get(), expected)


@torch.no_grad()
def test_right_results_on_two_streams_at_once(pair, package, projection):
    with TaskExecutor(pair, 2) as executor:
        task = Task(package, executor)
        batches = [batch(size, projection) for size in (2, 5, 3, 2, 7, 4, 2, 3)]
        futures = [task(x, options=OPTIONS) for x in batches]
        for x, future in zip(batches, futures, strict=True):
            assert_same(future.get(), projection(x, options=OPTIONS))


def test_wrong_structure_is_told_at_once(single, package, projection):
    x = batch(2, projection)
    with TaskExecutor(single) as executor:
        task = Task(package, executor)
        for args, kwargs in (
            ((x, x), {"options": OPTIONS}),
            ((x,), {"options": OPTIONS["scale"]}),
            (([x],), {"options": OPTIONS}),
        ):
            with pytest.raises(TypeError, match="arguments must have the structure"):
                task(*args, **kwargs)
        with pytest.raises((TypeError, ValueError, KeyError)):
            task(x)
        assert task.run_sync(x, options=OPTIONS)["y"].shape == x.shape


def test_error_inside_the_package_travels(single, package, projection):
    with TaskExecutor(single) as executor:
        task = Task(package, executor)
        with pytest.raises(RuntimeError) as caught:
            task.run_sync(torch.ones(2, projection.size + 1), options=OPTIONS)
        assert "on stream 0 of 1" in caught.value.__notes__[0]
        assert task.run_sync(batch(2, projection), options=OPTIONS)["y"].shape[0] == 2


@torch.no_grad()
def test_calls_overlap_in_time(pair, package, projection):
    x = batch(128, projection)
    with TaskExecutor(pair, 2) as executor:
        task = Task(package, executor)
        task.warm_up(x, options=OPTIONS)
        workers = [stream.thread_ids[0] for stream in executor.streams]
        before = [cpu_time_of(worker) for worker in workers]
        futures = [task(x, options=OPTIONS) for _ in range(2)]
        first = wait(futures, DEADLINE_S, FIRST_COMPLETED).done
        halfway = [cpu_time_of(worker) for worker in workers]
        assert first
        wait(futures, DEADLINE_S)
        after = [cpu_time_of(worker) for worker in workers]
        # Had one waited for the other's model instance, it would have worked only after it.
        for start, middle, end in zip(before, halfway, after, strict=True):
            assert middle - start > 0.05 * (end - start) > 0


@torch.no_grad()
def test_package_never_takes_the_gil(pair, package, projection):
    with TaskExecutor(pair, 2) as executor:
        task = Task(package, executor)
        x = batch(8, projection)
        task.warm_up(x, options=OPTIONS)
        assert is_over_without_the_gil(lambda: [task(x, options=OPTIONS) for _ in range(4)])


def system_call_of(thread_id: int) -> str:
    return (TASKS / str(thread_id) / "syscall").read_text().split()[0]


def test_a_child_loads_although_a_thread_of_its_parent_was_loading(tmp_path):
    fifo, damaged = tmp_path / "fifo.pt2", tmp_path / "damaged.pt2"
    os.mkfifo(fifo)
    damaged.write_bytes(b"no package")

    def load(path):
        with contextlib.suppress(RuntimeError):
            _native.torch_ext.AOTInductorCallee(str(path), 1)

    def load_in_child():
        signal.alarm(int(DEADLINE_S))  # waiting for a lock in C++ hears nothing else
        load(damaged)
        return "ended"

    loading = threading.Thread(target=load, args=(fifo,))
    with TaskExecutor(CPUPool([min(allowed_cpus())])):  # registers the fork handlers
        loading.start()
        # It opens the file with its lock held, and stays there until somebody writes.
        assert wait_until(lambda: system_call_of(loading.native_id) in OPENAT)
        assert in_forked_child(load_in_child) == "'ended'"
        os.close(os.open(fifo, os.O_WRONLY))
        loading.join(DEADLINE_S)
    assert not loading.is_alive()


MEMORY_PROGRAM = """
import sys
from pathlib import Path
import torch
from corestream import _native

def resident_mib():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024

package = sys.argv[1]
loaded, sizes = [], [resident_mib()]
for num_runners in (1, 1, 8):
    loaded.append(_native.torch_ext.AOTInductorCallee(package, num_runners))
    sizes.append(resident_mib())
one, eight = sizes[2] - sizes[1], sizes[3] - sizes[2]
print(one, eight)
"""


def test_one_copy_of_the_weights_for_all_streams(package, projection):
    answer = subprocess.run(
        [sys.executable, "-c", MEMORY_PROGRAM, str(package)],
        timeout=60,
        check=True,
        capture_output=True,
        text=True,
    )
    one, eight = map(float, answer.stdout.split())
    weights = projection.weight.nbytes / 2**20
    assert one > 0.5 * weights  # otherwise nothing is measured
    assert eight - one < 0.5 * weights
