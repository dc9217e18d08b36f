"""TorchScript's fork and wait run on the executor's own streams."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch

from corestream import MultiStreamModule, Task, TaskExecutor, _native
from tests.api.source_tree import REPO
from tests.unit.runtime.gate import Gate
from tests.unit.runtime.operators import observed
from tests.unit.runtime.proc import DEADLINE_S, name_of, thread_ids

FORKED, CALLER = 1, 0


def compute_z(x, w_z):
    return torch.mm(torch.ops.corestream_tests.observe(x, 1), w_z)


class InterOp(torch.nn.Module):
    """The example of PyTorch's page on CPU threading and TorchScript inference."""

    def __init__(self):
        super().__init__()
        self.register_buffer("w_y", torch.randn(4, 4))
        self.register_buffer("w_z", torch.randn(4, 4))

    def forward(self, x):
        # Launch compute_z asynchronously, go on in parallel to it, wait for its result.
        fut = torch.jit.fork(compute_z, x, self.w_z)
        y = torch.mm(torch.ops.corestream_tests.observe(x, 0), self.w_y)
        z = torch.jit.wait(fut)
        return y + z

    def expected(self, x):
        return x @ self.w_y + x @ self.w_z


def leaf(x):
    return torch.ops.corestream_tests.observe(x, 1) + 1


def branch(x):
    left = torch.jit.fork(leaf, x)
    right = torch.jit.fork(leaf, x * 2)
    return torch.jit.wait(left) + torch.jit.wait(right)


class Nested(torch.nn.Module):
    def forward(self, x):
        futures = [torch.jit.fork(branch, x)]
        for number in range(1, 5):
            futures.append(torch.jit.fork(branch, x + number))
        total = torch.zeros_like(x)
        for future in futures:
            total = total + torch.jit.wait(future)
        return total

    def expected(self, x):
        return sum(3 * (x + number) + 2 for number in range(5))


def refuse(x):
    if x.numel() > 0:
        raise ValueError("the forked one's own")
    return x


def mismatch(x):
    return torch.mm(x, x)


class FailsInScript(torch.nn.Module):
    def forward(self, x):
        return torch.jit.wait(torch.jit.fork(refuse, x))


class FailsInOperator(torch.nn.Module):
    def forward(self, x):
        future = torch.jit.fork(mismatch, x)
        y = x + 1
        return torch.jit.wait(future) + y


def times(x, weight):
    return x * weight


class Weighted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2, 2))

    def forward(self, x):
        future = torch.jit.fork(times, torch.ops.corestream_tests.observe(x, 0), self.weight)
        forked = torch.jit.wait(future)
        return forked, x * self.weight, torch.mm(x, self.weight)


@pytest.fixture(params=[1, 2], ids=["one stream", "two streams"])
def executor(pair, single, request):
    pool = single if request.param == 1 else pair
    with TaskExecutor(pool, request.param) as running:
        yield running


@pytest.mark.parametrize("model", [InterOp, Nested])
def test_right_results(executor, model):
    module = model()
    task = Task(torch.jit.script(module), executor)
    inputs = [torch.randn(4, 4) for _ in range(50)]
    for x in inputs[:5]:
        torch.testing.assert_close(task(x).get(DEADLINE_S), module.expected(x))
    for x, future in [(x, task(x)) for x in inputs]:
        torch.testing.assert_close(future.get(DEADLINE_S), module.expected(x))


@pytest.mark.parametrize("model", [InterOp, Nested])
def test_forked_work_stays_on_the_streams(executor, model):
    task = Task(torch.jit.script(model()), executor)
    task.run_sync(torch.ones(4, 4))
    before = thread_ids()
    seen = set()
    with observed(lambda _place: seen.add(threading.get_native_id())):
        for future in [task(torch.ones(4, 4)) for _ in range(20)]:
            future.get(DEADLINE_S)
    assert seen <= {stream.thread_ids[0] for stream in executor.streams}
    assert all(name_of(thread).startswith("cs-") for thread in seen)
    assert thread_ids() == before


def test_fork_runs_beside_its_caller(pair):
    barrier = threading.Barrier(2)
    threads = {}

    def meet(place):
        threads[place] = threading.get_native_id()
        barrier.wait(DEADLINE_S)

    module = InterOp()
    with TaskExecutor(pair, 2) as executor:
        x = torch.randn(4, 4)
        task = Task(torch.jit.script(module), executor)
        with observed(lambda place: None):
            task.warm_up(x)  # until a shape is settled its forks run where they stand
        with observed(meet):
            result = task(x).get(DEADLINE_S)
        assert threads.keys() == {FORKED, CALLER}
        assert set(threads.values()) == {stream.thread_ids[0] for stream in executor.streams}
    torch.testing.assert_close(result, module.expected(x))


def test_forks_of_more_calls_than_streams(executor):
    module = Nested()
    task = Task(torch.jit.script(module), executor)
    callers = 4
    ready = threading.Barrier(callers)
    wrong = []

    def call(number):
        ready.wait(DEADLINE_S)
        for _ in range(20):
            x = torch.full((2, 2), float(number))
            if not torch.equal(task(x).get(DEADLINE_S), module.expected(x)):
                wrong.append(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_task_that_waits_for_a_forking_one(executor):
    module = InterOp()
    task = Task(torch.jit.script(module), executor)
    x = torch.randn(4, 4)
    waiting = [executor.submit(lambda: task(x).get(DEADLINE_S / 3)) for _ in range(3)]
    for future in waiting:
        torch.testing.assert_close(future.get(DEADLINE_S), module.expected(x))


@pytest.mark.parametrize(
    ("model", "text"),
    [(FailsInScript, "the forked one's own"), (FailsInOperator, "mat1 and mat2 shapes")],
)
def test_errors_of_forked_work_travel(executor, model, text):
    task = Task(torch.jit.script(model()), executor)
    for _ in range(3):
        error = task(torch.ones(2, 3)).exception(DEADLINE_S)
        assert isinstance(error, RuntimeError)
        assert text in str(error)
        assert "corestream: raised on stream" in error.__notes__[0]
    module = InterOp()
    after = Task(torch.jit.script(module), executor)
    x = torch.ones(4, 4)
    result = after(x).get(DEADLINE_S)
    torch.testing.assert_close(result, module.expected(x))


@pytest.mark.parametrize(
    "scope",
    [torch.no_grad, torch.inference_mode, torch.enable_grad, lambda: torch.autocast("cpu")],
    ids=["no grad", "inference", "grad", "autocast"],
)
def test_forked_work_has_the_submitters_modes(executor, scope):
    module = torch.jit.script(Weighted())
    task = Task(module, executor)
    x = torch.ones(2, 2)
    with scope():
        expected = module(x)
        results = task(x).get(DEADLINE_S)
    for result, wanted in zip(results, expected, strict=True):
        assert result.requires_grad == wanted.requires_grad
        assert result.is_inference() == wanted.is_inference()
        assert result.dtype is wanted.dtype
    forked, after, _ = executor.submit(module, x).get(DEADLINE_S)
    assert forked.requires_grad
    assert after.requires_grad
    assert executor.submit(torch.is_grad_enabled).get()


def test_shutdown_waits_for_forked_work(pair):
    module = Nested()
    for num_streams in (1, 2):
        with TaskExecutor(pair, num_streams) as executor, Gate(executor):
            task = Task(torch.jit.script(module), executor)
            futures = [task(torch.ones(2, 2)) for _ in range(5)]
        assert all(future.done() for future in futures)
        for future in futures:
            assert torch.equal(future.get(), module.expected(torch.ones(2, 2)))


def test_multi_stream_module_with_forks(pair):
    module = InterOp()
    streams = MultiStreamModule(torch.jit.script(module), 2, pair)
    with streams.executor:
        x = torch.randn(6, 4)
        torch.testing.assert_close(streams(x), module.expected(x))


def test_done_callbacks_run_outside_native_code(executor):
    task = Task(torch.jit.script(InterOp()), executor)
    x = torch.ones(4, 4)
    with observed(lambda _place: None):
        task.warm_up(x)  # until a shape is settled its forks run where they stand
    registered, called = threading.Event(), threading.Event()
    seen = []

    def note(_future):
        seen.append((threading.get_native_id(), _native.core.is_in_native_section()))
        called.set()

    with observed(lambda _place: registered.wait(DEADLINE_S)):
        task(x).add_done_callback(note)
        registered.set()
        assert called.wait(DEADLINE_S)
    [(thread, is_native)] = seen
    assert thread in {stream.thread_ids[0] for stream in executor.streams}
    assert not is_native  # else a fork meanwhile would wait for the callback


TEMPORARY_MODULE_PROGRAM = """
import torch
from corestream import TaskExecutor
from tests.unit.runtime.test_jit_fork import InterOp

x = torch.ones(4, 4)
with TaskExecutor() as executor:
    for _ in range(50):
        module = InterOp()
        result = executor.submit(torch.jit.script(module), x).get(30)
        torch.testing.assert_close(result, module.expected(x))
"""


def test_module_that_nobody_else_holds():
    # In a process of its own: what goes wrong here ends the process.
    program = [sys.executable, "-W", "ignore", "-c", TEMPORARY_MODULE_PROGRAM]
    assert subprocess.run(program, cwd=REPO, timeout=100).returncode == 0
