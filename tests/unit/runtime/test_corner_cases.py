"""What reviews found: each of these hung, crashed, leaked or gave a wrong answer once."""

from __future__ import annotations

import concurrent.futures
import gc
import math
import threading
import weakref

import pytest
import torch

import corestream
from corestream import MultiStreamModule, Task, TaskExecutor
from tests.unit.runtime.gate import Gate

DEADLINE_S = 30.0

_nested: list[Task] = []


@pytest.fixture
def executor(single):
    with TaskExecutor(single) as running:
        yield running


class AsksItself(torch.nn.Module):
    """Waits, in Python, for another call of itself."""

    def forward(self, x: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        if bool(depth > 0):
            return x + self.ask(x, depth - 1)
        return x

    @torch.jit.ignore
    def ask(self, x, depth):
        return _nested[0](x, depth).get(DEADLINE_S)


@pytest.mark.parametrize("num_streams", [1, 2])
def test_model_that_waits_for_itself(pair, num_streams):
    with TaskExecutor(pair, num_streams) as executor:
        _nested[:] = [Task(torch.jit.script(AsksItself()), executor)]
        assert _nested[0](torch.ones(2), torch.tensor(2)).get(DEADLINE_S).tolist() == [3.0, 3.0]
        _nested.clear()


class Forks(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        futures = [torch.jit.fork(torch.relu, x) for _ in range(8)]
        total = torch.zeros_like(x)
        for future in futures:
            total += torch.jit.wait(future)
        return total


def test_shutdown_lets_a_suspended_call_end(single):
    executor = TaskExecutor(single)
    task = Task(torch.jit.script(Forks()), executor)
    task.warm_up(torch.ones(1))
    future = task(torch.ones(1))
    while not (future.running() or future.done()):
        pass
    executor.shutdown(cancel_pending=True)
    assert future.get(DEADLINE_S).tolist() == [8.0]


def test_function_of_a_unit_that_nobody_else_holds(executor):
    unit = torch.jit.CompilationUnit("def f(x):\n    return x * 2 + 1\n")
    with Gate(executor):
        future = Task(unit.f, executor)(torch.ones(2))
        del unit
        gc.collect()
    assert future.get(DEADLINE_S).tolist() == [3.0, 3.0]


def test_call_of_which_one_part_was_cancelled(single):
    begun, go_on = threading.Event(), threading.Event()

    def hold(x):
        begun.set()
        assert go_on.wait(DEADLINE_S)
        return x

    executor = TaskExecutor(single)
    task = Task(hold, executor)
    parts = [((torch.ones(1),), {}), ((torch.ones(1),), {})]
    future = corestream.Future(executor._native.submit_parts(task._callee, parts))
    assert begun.wait(DEADLINE_S)
    executor.shutdown(wait=False, cancel_pending=True)
    go_on.set()
    done, _ = concurrent.futures.wait([future], DEADLINE_S)
    executor.shutdown()
    assert done == {future}
    for _ in range(2):
        with pytest.raises(concurrent.futures.CancelledError):
            future.get()


def test_script_list_stays_the_callers(executor):
    @torch.jit.script
    def total(tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(tensors).sum()

    weight = torch.ones(2, requires_grad=True)
    tensors = torch.jit.script([weight])
    with torch.no_grad():
        assert Task(total, executor)(tensors).get(DEADLINE_S).item() == 2.0
    assert tensors[0].requires_grad


@pytest.mark.parametrize("timeout", [1e10, math.inf, threading.TIMEOUT_MAX])
def test_timeout_beyond_the_clock(executor, timeout):
    assert executor.submit(int).get(timeout) == 0


def test_timeout_that_is_no_number(executor):
    with Gate(executor):
        future = executor.submit(int)
        with pytest.raises(ValueError, match="timeout must be a number of seconds; got nan"):
            future.get(math.nan)


def test_submitted_script_is_specialised_once(executor):
    script = torch.jit.trace(torch.nn.ReLU(), torch.ones(1))
    for _ in range(3):
        executor.submit(script, torch.ones(1)).get(DEADLINE_S)
    assert len(executor._callees) == 1
    del script
    gc.collect()
    assert len(executor._callees) == 0


def test_thread_that_a_task_starts_is_no_team_member(executor):
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    executor.submit(thread.start).get(DEADLINE_S)
    try:
        assert executor.audit().problems == ()
    finally:
        stop.set()
        thread.join()


def test_forward_mode_gradient(executor):
    double = torch.jit.trace(lambda x: x * 2, torch.ones(2))
    with torch.autograd.forward_ad.dual_level():
        x = torch.autograd.forward_ad.make_dual(torch.ones(2), torch.ones(2))
        result = Task(double, executor)(x).get(DEADLINE_S)
        tangent = torch.autograd.forward_ad.unpack_dual(result).tangent
        assert tangent.tolist() == [2.0, 2.0]


def test_container_that_holds_itself(pair):
    loop = [torch.ones(2)]
    loop.append(loop)
    streams = MultiStreamModule(lambda x: x, 2, pair)
    try:
        with pytest.raises(RecursionError):
            streams(loop)
    finally:
        streams.executor.shutdown()


class Bound(torch.nn.Module):
    def __init__(self, executor):
        super().__init__()
        self.task = Task(self.compute, executor)

    def compute(self, x):
        return x


def test_task_of_a_bound_method_is_collected(executor):
    model = weakref.ref(Bound(executor))
    gc.collect()
    assert model() is None
