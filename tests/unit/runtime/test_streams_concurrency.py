"""Many callers, many batches in flight, streams that fail: no call sees another's data."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from corestream import MultiStreamModule, Task
from corestream import MultiStreamModuleHint as Hint
from tests.helpers import assert_outputs_match
from tests.unit.runtime.stream_cases import (
    MACHINES,
    Affine,
    FailsAbove,
    Machine,
    Meet,
    scripted,
    whole_batch,
)

CALLERS = 8
ROUNDS = 40
TWO = Machine(num_streams=2, num_cpus=2, is_real=True)
on_machines = pytest.mark.parametrize("machine", MACHINES, ids=str)


class Both(NamedTuple):
    more: torch.Tensor
    less: torch.Tensor


class ReturnsBoth(nn.Module):
    def forward(self, x: torch.Tensor) -> Both:
        return Both(x + 1, x - 1)


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Python threads take turns after every few instructions."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def call_together(count: int, call: Any) -> list[Any]:
    """`call(i)` in `count` threads that start at one barrier; what they returned."""
    barrier = threading.Barrier(count)

    def run(index: int) -> Any:
        barrier.wait()
        return call(index)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


@on_machines
@pytest.mark.usefixtures("frequent_switches")
def test_many_callers_each_get_their_own_result(machine):
    model = scripted(Affine())

    def call(caller: int) -> None:
        with torch.no_grad():
            for round_number in range(ROUNDS):
                x = whole_batch(1 + (caller + round_number) % 7) + caller
                assert_outputs_match(streams(x), model(x))

    with machine.run(model) as streams:
        call_together(CALLERS, call)


@on_machines
@pytest.mark.usefixtures("frequent_switches")
def test_many_callers_of_a_python_callable_with_nested_outputs(machine):
    def model(x: torch.Tensor, names: list[str]) -> dict[str, Any]:
        return {"x": [x + 1], "names": names}

    def call(caller: int) -> None:
        for round_number in range(ROUNDS // 4):
            x = whole_batch(1 + (caller + round_number) % 7) + caller
            names = [str(caller)]
            assert_outputs_match(streams(x, names), model(x, names))

    with machine.run(model) as streams:
        call_together(CALLERS, call)


@on_machines
def test_several_batches_are_in_flight(machine):
    model = scripted(Affine())
    with machine.run(model) as streams, torch.no_grad():
        batches = [whole_batch(1 + index % 9) * (index + 1) for index in range(30)]
        futures = [streams.forward_async(batch) for batch in batches]
        for batch, future in reversed(list(zip(batches, futures, strict=True))):
            assert_outputs_match(future.get(), model(batch))
            assert future.get() is future.get()


def test_a_batch_that_waits_does_not_hold_up_one_that_needs_one_stream():
    is_open, is_waiting = threading.Event(), threading.Event()

    def model(x: torch.Tensor) -> torch.Tensor:
        if x[0, 0] < 0:
            is_waiting.set()
            is_open.wait()
        return x + 1

    with TWO.run(model) as streams:
        blocked = streams.forward_async(torch.full((1, 3), -1.0))
        is_waiting.wait()
        assert_outputs_match(streams(whole_batch(6)), whole_batch(6) + 1)
        assert not blocked.done()
        is_open.set()
        assert_outputs_match(blocked.get(), torch.zeros(1, 3))


def test_a_model_may_call_its_own_streams():
    with TWO.run(lambda x: x + 1 if len(x) == 1 else streams(x) + 1) as streams:
        result = streams(torch.zeros(8, 1))
    assert_outputs_match(result, torch.full((8, 1), 3.0))


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize("concat_output", [True, False])
def test_many_threads_take_one_future(concat_output):
    with TWO.run(scripted(ReturnsBoth()), concat_output=concat_output) as streams:
        for _ in range(50):
            future = streams.forward_async(whole_batch(3))
            results = call_together(4, lambda _, future=future: future.get())
            assert len({id(result) for result in results}) == 1


@pytest.mark.usefixtures("frequent_switches")
def test_many_threads_take_one_task_s_future():
    # Making a NamedTuple of TorchScript's runs Python code, in which threads take turns.
    with TWO.run(scripted(ReturnsBoth())) as streams:
        task = Task(streams.model, streams.executor)
        for _ in range(50):
            future = task(whole_batch(3))
            results = call_together(4, lambda _, future=future: future.get())
            assert len({id(result) for result in results}) == 1


@contextmanager
def meeting(num_streams: int, *, is_real: bool) -> Iterator[MultiStreamModule]:
    """Streams of Meet that have run it before: a shape's first runs take turns."""
    machine = Machine(num_streams=num_streams, num_cpus=num_streams, is_real=is_real)
    with machine.run(scripted(Meet()), input_split_hint=Hint(0, None)) as streams:
        for _ in range(3):
            streams(torch.arange(num_streams), torch.ones(num_streams + 1, dtype=torch.int64))
        yield streams


@pytest.mark.parametrize("num_streams", [1, 2, 3, 5])
def test_streams_run_torchscript_at_one_time_and_without_the_gil(num_streams):
    # Each part turns in C++ until every part and this thread have taken a seat: if the parts ran
    # one after the other, or held the GIL, not all seats would ever be taken.
    seats = torch.zeros(num_streams + 1, dtype=torch.int64)
    order = torch.arange(num_streams)
    with meeting(num_streams, is_real=num_streams <= 2) as streams:
        future = streams.forward_async(order, seats)
        seats[num_streams] = 1
        assert torch.equal(future.get(), order)


@pytest.mark.parametrize("num_streams", [1, 2])
def test_a_waiting_caller_lets_other_threads_run(num_streams):
    seats = torch.zeros(num_streams + 1, dtype=torch.int64)
    order = torch.arange(num_streams)
    turns = 0

    def count_until_all_wait() -> None:
        nonlocal turns
        while not seats[:-1].all():
            turns += 1
        seats[-1] = 1

    with meeting(num_streams, is_real=True) as streams:
        counter = threading.Thread(target=count_until_all_wait)
        counter.start()
        assert torch.equal(streams(order, seats), order)
        counter.join()


def test_two_calls_overlap():
    seats = torch.tensor([0, 0, 1])
    with meeting(2, is_real=True) as streams:
        results = call_together(2, lambda caller: streams(torch.tensor([caller]), seats))
    assert results == [torch.tensor([0]), torch.tensor([1])]


def note_of(error: BaseException, streams: MultiStreamModule) -> None:
    """Asserts that the error's note names a stream and its CPUs."""
    (note,) = error.__notes__
    match = re.fullmatch(r"corestream: raised on stream (\d+) of (\d+) \(CPUs ([\d,-]+)\)", note)
    index, count, cpus = match.groups()
    infos = streams.executor.streams
    assert int(count) == len(infos)
    assert cpus.replace("-", ",").split(",")[0] == str(infos[int(index)].core_ids[0])


@on_machines
def test_a_failing_part_names_its_stream_and_the_next_call_is_right(machine):
    model = scripted(FailsAbove())
    with machine.run(model, input_split_hint=Hint(0)) as streams:
        x = whole_batch(2 * machine.num_streams)
        for _ in range(3):
            with pytest.raises(torch.jit.Error, match="above the limit") as caught:
                streams(x, x.max().item() - 1)
            note_of(caught.value, streams)
            assert_outputs_match(streams(x, x.max().item()), x + 1)


def test_all_streams_finish_before_the_first_error_is_raised():
    has_failed, is_open = threading.Event(), threading.Event()
    finished = []

    def model(x: torch.Tensor) -> torch.Tensor:
        if x[0, 0] == 0:
            has_failed.set()
            raise KeyError("first part")
        is_open.wait()
        finished.append(len(x))
        return x

    with TWO.run(model) as streams:
        future = streams.forward_async(whole_batch(5))
        has_failed.wait()
        # One stream waits for the gate, so it was the failed part's that ran this.
        assert streams.executor.submit(int).get() == 0
        assert not future.done()
        assert finished == []
        is_open.set()
        for _ in range(2):
            with pytest.raises(KeyError, match="first part") as caught:
                future.get()
        assert finished == [2]
        note_of(caught.value, streams)


def test_of_several_errors_the_first_parts_is_raised():
    second_failed = threading.Event()

    def model(x: torch.Tensor) -> torch.Tensor:
        if x[0, 0] == 0:
            second_failed.wait()
            raise ValueError("part 0")
        second_failed.set()
        raise KeyError("part 1")

    with TWO.run(model) as streams, pytest.raises(ValueError, match=r"^part 0\n"):
        streams(whole_batch(2))


def test_an_error_s_traceback_shows_the_models_line():
    def model(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("from the model")

    with TWO.run(model) as streams, pytest.raises(ValueError, match="from the model") as caught:
        streams(whole_batch(2))
    assert caught.traceback[-1].name == "model"


@pytest.mark.usefixtures("frequent_switches")
def test_failing_and_working_calls_do_not_mix():
    model = scripted(FailsAbove())

    def call(caller: int) -> None:
        for round_number in range(ROUNDS):
            x = whole_batch(2 + round_number % 5) + caller
            if (caller + round_number) % 2:
                with pytest.raises(torch.jit.Error, match="above the limit"):
                    streams(x, -1.0)
            else:
                assert_outputs_match(streams(x, 1e9), x + 1)

    with TWO.run(model, input_split_hint=Hint(0)) as streams:
        call_together(CALLERS, call)
