"""`Future`: values, errors, cancellation, callbacks, and what it keeps alive."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import signal
import sys
import threading
import traceback
import weakref

import pytest
import torch

import corestream
from corestream import TaskExecutor
from tests.unit.runtime.gate import Gate
from tests.unit.runtime.proc import DEADLINE_S, name_of


@pytest.fixture
def executor(single):
    with TaskExecutor(single) as running:
        yield running


class Product(torch.nn.Module):
    def forward(self, x, y):
        return x @ y


@torch.jit.script
def raises_in_script(x):
    if x.numel() > 0:
        raise ValueError("the script's own")
    return x


def fail(error):
    raise error


def test_the_same_object_each_time(executor):
    future = executor.submit(dict, a=1)
    value = future.get()
    assert value == {"a": 1}
    assert future.get() is future.result() is future.get(timeout=0) is value
    native = corestream.Task(torch.jit.script(Product()), executor)(torch.eye(2), torch.eye(2))
    assert native.get() is native.get()


def test_none_is_a_result_too(executor):
    future = executor.submit(lambda: None)
    assert future.get() is None
    assert future.get() is None
    assert future.exception() is None


@pytest.mark.parametrize("timeout", [0, 0.0, 0.001, -1])
def test_timeout(executor, timeout):
    with Gate(executor) as gate:
        future = executor.submit(max, 1, 2)
        for wait in (future.get, future.result, future.exception, gate.future.get):
            with pytest.raises(TimeoutError, match=f"must end within {timeout} s; got no result"):
                wait(timeout)
        gate.open()
        assert future.get(DEADLINE_S) == 2


def states(future):
    return future.done(), future.running(), future.cancelled()


def test_states(executor):
    with Gate(executor) as gate:
        future = executor.submit(max, 1, 2)
        assert states(gate.future) == (False, True, False)
        assert states(future) == (False, False, False)
        assert "queued" in repr(future)
    assert future.get() == 2
    assert states(future) == (True, False, False)
    assert "done" in repr(future)


@pytest.mark.parametrize(
    "error", [KeyError("k"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()]
)
def test_worker_survives_every_exception(executor, single, error):
    future = executor.submit(fail, error)
    assert future.exception() is error
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            future.get()
        assert caught.value is error
    core_id = single.core_ids[0]
    assert error.__notes__ == [f"corestream: raised on stream 0 of 1 (CPUs {core_id})"]
    assert "fail" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert executor.submit(max, 1, 2).get() == 2


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (torch.jit.script(Product()), (torch.ones(2, 3), torch.ones(2, 3))),
        (raises_in_script, (torch.ones(2),)),
    ],
    ids=["shape mismatch", "raise in script"],
)
def test_errors_of_scripts_are_those_of_a_direct_call(executor, module, arguments):
    with pytest.raises(Exception) as direct:  # noqa: PT011 (its type is what is compared)
        module(*arguments)
    future = executor.submit(module, *arguments)
    error = future.exception()
    assert type(error) is type(direct.value)
    assert str(error).splitlines()[-1] == str(direct.value).splitlines()[-1]
    assert "on stream 0 of 1" in error.__notes__[0]
    assert executor.submit(max, 1, 2).get() == 2


def test_note_names_the_stream(pair):
    with TaskExecutor(pair, 2) as executor, Gate(executor) as gate:
        error = executor.submit(fail, KeyError("k")).exception()
        workers = [stream.thread_ids[0] for stream in executor.streams]
        stream = 1 - workers.index(gate.thread_id)
        expected = f"raised on stream {stream} of 2 (CPUs {pair.core_ids[stream]})"
        assert error.__notes__ == [f"corestream: {expected}"]


def test_cancel_while_queued(executor):
    ran = []
    with Gate(executor):
        future = executor.submit(ran.append, 1)
        assert future.cancel()
        assert future.cancel()
        assert states(future) == (True, False, True)
        assert executor.pending == 0
        for use in (future.get, future.result, future.exception):
            with pytest.raises(concurrent.futures.CancelledError):
                use()
    assert executor.submit(max, 1, 2).get() == 2
    assert ran == []


def test_cancel_when_it_is_too_late(executor):
    with Gate(executor) as gate:
        assert not gate.future.cancel()
        assert states(gate.future) == (False, True, False)
    assert gate.future.get() is None
    assert not gate.future.cancel()
    assert not gate.future.cancelled()


@pytest.mark.parametrize(
    "module", [lambda x: x + 1, torch.jit.trace(torch.nn.ReLU(), torch.ones(1))]
)
def test_cancelled_task_lets_go_of_its_input(executor, module):
    task = corestream.Task(module, executor)
    x = torch.ones(2)
    alive = weakref.ref(x)
    with Gate(executor):
        future = task(x)
        del x
        assert future.cancel()
        assert alive() is None


@pytest.mark.parametrize(
    "module", [lambda x: x + 1, torch.jit.trace(torch.nn.ReLU(), torch.ones(1))]
)
def test_inputs_and_results_are_not_kept_alive(executor, module):
    task = corestream.Task(module, executor)
    x = torch.ones(2)
    inputs = weakref.ref(x)
    future = task(x)
    del x
    result = weakref.ref(future.get())
    executor.submit(int).get()  # the stream has put the first task away
    assert inputs() is None
    assert result() is not None
    del future
    assert result() is None


def test_result_that_nobody_fetched_is_let_go_of(executor):
    class Value:
        pass

    values = []

    def make():
        value = Value()
        values.append(weakref.ref(value))
        return value

    future = executor.submit(make)
    executor.submit(int).get()
    assert values[0]() is not None
    del future
    gc.collect()
    assert values[0]() is None


def test_callback_before_completion_runs_on_the_stream(executor):
    calls = []
    over = threading.Event()
    with Gate(executor):
        future = executor.submit(max, 1, 2)
        for number in range(3):
            future.add_done_callback(
                lambda done, number=number: calls.append(
                    (number, done, done.get(), name_of(threading.get_native_id())[:3])
                )
            )
        future.add_done_callback(lambda _done: over.set())
        assert calls == []
    assert over.wait(DEADLINE_S)
    assert calls == [(number, future, 2, "cs-") for number in range(3)]


def test_callback_after_completion_runs_at_once(executor):
    future = executor.submit(fail, KeyError("k"))
    future.exception()
    calls = []
    future.add_done_callback(calls.append)
    assert calls == [future]


def test_callback_of_a_cancelled_task(executor):
    calls = []
    with Gate(executor):
        future = executor.submit(int)
        future.add_done_callback(lambda done: calls.append(done.cancelled()))
        future.cancel()
        assert calls == [True]


def test_exception_in_a_callback_is_logged(executor, caplog):
    over = threading.Event()
    with Gate(executor):
        future = executor.submit(max, 1, 2)
        future.add_done_callback(lambda _done: fail(KeyError("callback's")))
        future.add_done_callback(lambda _done: over.set())
    assert over.wait(DEADLINE_S)
    (record,) = caplog.records
    assert record.name == "corestream.runtime.future"
    assert "done callback" in record.getMessage()
    assert record.exc_info[0] is KeyError
    assert future.get() == 2
    assert executor.submit(max, 1, 2).get() == 2


def test_exit_in_a_callback_does_not_end_the_stream(executor, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: seen.append(report.exc_type))
    with Gate(executor):
        future = executor.submit(max, 1, 2)
        future.add_done_callback(lambda _done: fail(SystemExit(3)))
    assert executor.submit(max, 1, 2).get(DEADLINE_S) == 2
    assert seen == [SystemExit]


def test_interrupt_while_waiting(executor):
    with Gate(executor) as gate:

        def interrupt_and_wait():
            os.kill(os.getpid(), signal.SIGINT)
            return gate.future.get(DEADLINE_S)

        sender = threading.Thread(target=interrupt_and_wait)

        def wait_interrupted():
            sender.start()
            gate.future.get(DEADLINE_S)

        with pytest.raises(KeyboardInterrupt):
            wait_interrupted()
        assert gate.future.running()
        gate.open()
        sender.join()
    assert executor.submit(max, 1, 2).get() == 2


def test_state_is_not_for_callers_to_set(executor):
    future = executor.submit(max, 1, 2)
    for setter in (
        future.set_running_or_notify_cancel,
        lambda: future.set_result(1),
        lambda: future.set_exception(KeyError()),
    ):
        with pytest.raises(TypeError, match="must be set by its stream"):
            setter()
    assert future.get() == 2
