"""`TaskExecutor`: streams on their cores, one queue, and how it ends."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import CancelledError

import pytest
import torch

import corestream
from corestream import MultiStreamModule, TaskExecutor
from corestream.errors import QueueFull, ShutDown
from tests.unit.runtime.gate import Gate
from tests.unit.runtime.proc import DEADLINE_S, on_new_thread


def test_runs_tasks(single):
    with TaskExecutor(single) as executor:
        assert executor.submit(divmod, 7, 2).get() == (3, 1)
        assert executor.submit(dict, a=1).get() == {"a": 1}
        assert executor.cpu_pool == single
        assert executor.num_streams == 1


def test_first_in_first_out(single):
    order = []
    with TaskExecutor(single) as executor:
        gate = Gate(executor)
        futures = [executor.submit(order.append, number) for number in range(50)]
        assert executor.pending == 50
        gate.open()
        for future in futures:
            future.get()
    assert order == list(range(50))


def test_idle_stream_takes_what_a_busy_one_leaves(pair):
    with TaskExecutor(pair, 2) as executor:
        gate = Gate(executor)
        order = []
        futures = [executor.submit(order.append, number) for number in range(20)]
        threads = {executor.submit(threading.get_native_id).get(DEADLINE_S) for _ in range(20)}
        for future in futures:
            future.get(DEADLINE_S)
        assert not gate.future.done()
        gate.open()
        workers = {stream.thread_ids[0] for stream in executor.streams}
        assert threads == workers - {gate.thread_id}
        assert order == list(range(20))


def test_idle_stream_takes_the_part_meant_for_a_busy_one(pair):
    module = torch.jit.trace(torch.nn.ReLU(), torch.ones(2))
    streams = MultiStreamModule(module, 2, pair)
    with streams.executor as executor:
        gate = Gate(executor)
        future = streams.forward_async(torch.tensor([[-1.0], [2.0]]))
        assert torch.equal(future.get(DEADLINE_S), torch.tensor([[0.0], [2.0]]))
        assert not gate.future.done()
        gate.open()


def test_all_streams_work_at_once(pair):
    barrier = threading.Barrier(2)
    with TaskExecutor(pair, 2) as executor:
        futures = [executor.submit(barrier.wait, DEADLINE_S) for _ in range(2)]
        assert sorted(future.get(DEADLINE_S) for future in futures) == [0, 1]


def test_full_queue_refuses_and_queues_nothing(single):
    ran = []
    with TaskExecutor(single, queue_capacity=2) as executor:
        gate = Gate(executor)
        futures = [executor.submit(ran.append, number) for number in range(2)]
        for _ in range(3):
            with pytest.raises(QueueFull, match="with 2 of 2 waiting"):
                executor.submit(ran.append, "refused")
            assert executor.pending == 2
        assert futures[0].cancel()
        futures.append(executor.submit(ran.append, "fits again"))
        gate.open()
        for future in futures[1:]:
            future.get(DEADLINE_S)
    assert ran == [1, "fits again"]


def test_refused_parts_are_queued_neither(pair):
    module = torch.jit.trace(torch.nn.ReLU(), torch.ones(2))
    with TaskExecutor(pair, 2, queue_capacity=1) as executor:
        gates = [Gate(executor) for _ in range(2)]
        callee = corestream.Task(module, executor)._callee
        with pytest.raises(QueueFull, match="got 2 task"):
            executor._native.submit_parts(callee, [((torch.ones(1),), {})] * 2)
        assert executor.pending == 0
        for gate in gates:
            gate.open()


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_runs_what_is_queued(single, wait):
    ran = []
    executor = TaskExecutor(single)
    gate = Gate(executor)
    futures = [executor.submit(ran.append, number) for number in range(10)]
    if wait:
        # Opened only once shutdown() is under way: tasks are refused.
        threading.Thread(target=open_when_refused, args=(executor, gate)).start()
    executor.shutdown(wait=wait)
    if not wait:
        assert not gate.future.done()
        gate.open()
        executor.shutdown(wait=True)
    assert ran == list(range(10))
    assert all(future.done() for future in futures)


def open_when_refused(executor: TaskExecutor, gate: Gate) -> None:
    try:
        while True:
            executor.submit(int)
    except ShutDown:
        gate.open()


def test_shutdown_can_cancel_what_is_queued(single):
    ran = []
    executor = TaskExecutor(single)
    gate = Gate(executor)
    futures = [executor.submit(ran.append, number) for number in range(10)]
    executor.shutdown(wait=False, cancel_pending=True)
    assert all(future.cancelled() for future in futures)
    with pytest.raises(CancelledError):
        futures[0].get()
    gate.open()
    executor.shutdown()
    assert gate.future.get() is None
    assert ran == []


def test_no_tasks_after_shutdown(single):
    executor = TaskExecutor(single)
    task = corestream.Task(max, executor)
    executor.shutdown()
    executor.shutdown()
    for use in (lambda: executor.submit(max, 1, 2), lambda: task(1, 2), executor.audit):
        with pytest.raises(ShutDown, match=r"got .* after shutdown\(\); make a new one"):
            use()
    assert "shut down" in repr(executor)


def test_context_manager_drains_also_after_an_exception(single):
    ran = []

    def fail_inside():
        with TaskExecutor(single) as executor:
            for number in range(20):
                executor.submit(ran.append, number)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail_inside()
    assert ran == list(range(20))


def test_dropped_executor_drains_and_ends(single):
    ran = []
    executor = TaskExecutor(single)
    may_run = threading.Event()
    executor.submit(may_run.wait, DEADLINE_S)
    for number in range(20):
        executor.submit(ran.append, number)
    # Called when the object's end has begun: nothing ran before.
    weakref.finalize(executor, may_run.set)
    assert ran == []
    del executor
    assert ran == list(range(20))


def test_future_outlives_its_executor(single):
    future = TaskExecutor(single).submit(max, 1, 2)
    assert future.get(DEADLINE_S) == 2


def test_task_may_wait_for_a_task_on_the_only_stream(single):
    with TaskExecutor(single) as executor:

        def descend(depth):
            return depth if depth == 0 else 1 + executor.submit(descend, depth - 1).get(DEADLINE_S)

        assert executor.submit(descend, 5).get(DEADLINE_S) == 5


def test_task_may_shut_its_executor_down(single):
    with TaskExecutor(single) as executor:
        assert executor.submit(executor.shutdown).get(DEADLINE_S) is None
        with pytest.raises(ShutDown):
            executor.submit(int)


def test_many_callers(pair):
    with TaskExecutor(pair, 2) as executor:

        def call():
            futures = [executor.submit(pow, number, 2) for number in range(200)]
            return [future.get(DEADLINE_S) for future in futures]

        callers = [executor.submit(call) for _ in range(2)]
        assert on_new_thread(call) == [number**2 for number in range(200)]
        assert callers[0].get(DEADLINE_S) == callers[1].get(DEADLINE_S)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"cpu_pool": [0]}, TypeError, r"cpu_pool must be a CPUPool; got \[0\]"),
        ({"num_streams": 0}, ValueError, "num_streams must be an int from 1 to 1; got 0"),
        ({"num_streams": 2}, ValueError, "num_streams must be an int from 1 to 1; got 2"),
        ({"num_streams": True}, TypeError, "num_streams must be an int .* got True"),
        ({"num_streams": 1.0}, TypeError, "num_streams must be an int .* got 1.0"),
        ({"queue_capacity": 0}, ValueError, "queue_capacity must be an int of at least 1"),
        ({"queue_capacity": "2"}, TypeError, "queue_capacity must be an int of at least 1"),
    ],
)
def test_wrong_arguments(single, arguments, error, text):
    with pytest.raises(error, match=text):
        TaskExecutor(**({"cpu_pool": single} | arguments))


def test_only_callables_are_submitted(single):
    with TaskExecutor(single) as executor, pytest.raises(TypeError, match="module must be"):
        executor.submit(3)
