"""The submitter's modes, autocast, profiler and contextvars hold in a task, and end with it."""

from __future__ import annotations

import contextvars
import json
import warnings

import pytest
import torch

from corestream import Task, TaskExecutor
from tests.unit.runtime.gate import Gate
from tests.unit.runtime.operators import observed
from tests.unit.runtime.proc import DEADLINE_S

variable = contextvars.ContextVar("variable", default="unset")


class Product(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(4))

    def forward(self, x):
        return torch.ops.corestream_tests.observe(x, 0) @ self.weight


@pytest.fixture
def executor(single):
    with TaskExecutor(single) as running:
        yield running


def modes() -> dict[str, object]:
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast dtype": torch.get_autocast_dtype("cpu"),
    }


SCOPES = {
    "grad": torch.enable_grad,
    "no grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast bf16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast fp16": lambda: torch.autocast("cpu", torch.float16),
    "autocast off": lambda: torch.autocast("cpu", enabled=False),
}


@pytest.mark.parametrize("scope", SCOPES)
def test_modes_in_a_python_callable(executor, scope):
    idle = executor.submit(modes).get()
    assert idle == modes()
    with SCOPES[scope]():
        assert executor.submit(modes).get() == modes()
    assert executor.submit(modes).get() == idle


@pytest.mark.parametrize("scope", SCOPES)
def test_modes_in_a_script_module(executor, scope):
    module = torch.jit.script(Product())
    task = Task(module, executor)
    seen = []
    x = torch.ones(2, 4)
    with observed(lambda _place: seen.append(modes())):
        with SCOPES[scope]():
            expected = module(x)
            result = task.run_sync(x)
            inside = modes()
        task.run_sync(x)
    assert seen == [inside, inside, modes()]
    assert result.dtype is expected.dtype
    assert result.requires_grad == expected.requires_grad
    assert result.is_inference() == expected.is_inference()
    assert torch.equal(result, expected)


def test_autocast_is_the_one_of_the_submission(executor):
    task = Task(torch.jit.script(Product()), executor)
    with torch.autocast("cpu", torch.bfloat16):
        future = task(torch.ones(2, 4))
    assert future.get().dtype is torch.bfloat16
    assert task.run_sync(torch.ones(2, 4)).dtype is torch.float32


@pytest.mark.parametrize(
    "prepare", [torch.jit.script, lambda module: module.forward], ids=["script", "python"]
)
def test_weights_changed_between_tasks_under_autocast(executor, prepare):
    # Casts of weights are cached until the scope ends that they were made in; this one ends first.
    module = Product()
    task = Task(prepare(module), executor)
    x = torch.ones(2, 4)
    with Gate(executor), torch.autocast("cpu", torch.bfloat16):
        future = task(x)
    assert torch.equal(future.get(), x.bfloat16())
    with torch.no_grad():
        module.weight.mul_(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(task.run_sync(x), 2 * x.bfloat16())


def test_gradients_flow_through_a_task(executor):
    module = Product()
    task = Task(torch.jit.script(module), executor)
    task.run_sync(torch.ones(2, 4)).sum().backward()
    assert torch.equal(module.weight.grad, torch.full((4, 4), 2.0))


def leave_everything_open():
    torch.set_grad_enabled(False)
    torch.autocast("cpu", torch.float16).__enter__()
    torch.inference_mode().__enter__()
    variable.set("the task's")


def test_state_that_a_task_leaves_open_does_not_leak(executor):
    before = modes()
    executor.submit(leave_everything_open).get()
    assert executor.submit(modes).get() == before
    assert executor.submit(variable.get).get() == "unset"
    assert modes() == before


def test_state_does_not_leak_after_an_error(executor):
    before = modes()

    def fail():
        leave_everything_open()
        raise KeyError("mine")

    with torch.no_grad():
        assert isinstance(executor.submit(fail).exception(), KeyError)
    assert executor.submit(modes).get() == before
    assert executor.submit(variable.get).get() == "unset"


def test_contextvars(executor):
    def change():
        before = variable.get()
        variable.set("the task's")
        return before, variable.get()

    token = variable.set("the submitter's")
    future = executor.submit(change)
    variable.reset(token)
    assert future.get() == ("the submitter's", "the task's")
    assert variable.get() == "unset"
    assert executor.submit(variable.get).get() == "unset"


def test_tasks_of_one_context_do_not_meet(pair):
    with TaskExecutor(pair, 2) as executor:

        def nested():
            variable.set("outer")
            inner = executor.submit(change)
            return inner.get(DEADLINE_S), variable.get()

        def change():
            before = variable.get()
            variable.set("inner")
            return before

        assert executor.submit(nested).get(DEADLINE_S) == ("outer", "outer")


def test_warning_reaches_the_submitters_filter(executor):
    def warn():
        warnings.warn("the task's own", UserWarning, stacklevel=1)
        return "over"

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert executor.submit(warn).get() == "over"
    assert [str(warning.message) for warning in caught] == ["the task's own"]
    with pytest.raises(UserWarning, match="the task's own"):
        executor.submit(warn).get()


def traced_events(profiler, path) -> list[dict[str, object]]:
    profiler.export_chrome_trace(str(path))
    return json.loads(path.read_text())["traceEvents"]


def test_profiler_shows_the_streams_operators_and_ranges(executor, tmp_path):
    task = Task(torch.jit.script(Product()), executor)

    def ranged():
        with torch.profiler.record_function("the task's range"):
            return torch.ones(3).neg()

    x = torch.ones(2, 4)
    executor.submit(torch.ones, 1).get()
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with (
        torch.profiler.profile(activities=cpu) as profiler,
        torch.profiler.record_function("the submitter's range"),
    ):
        task.run_sync(x)
        executor.submit(ranged).get()
    names = {event.name for event in profiler.events()}
    assert {"aten::mm", "aten::neg", "the task's range", "the submitter's range"} <= names
    events = traced_events(profiler, tmp_path / "trace.json")
    worker = executor.streams[0].thread_ids[0]
    on_stream = {event["name"] for event in events if event.get("tid") == worker}
    assert {"aten::mm", "aten::neg", "the task's range"} <= on_stream
    assert "the submitter's range" not in on_stream


def test_profiler_ends_with_its_scope(executor):
    task = Task(torch.jit.script(Product()), executor)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        task.run_sync(torch.ones(2, 4))
    task.run_sync(torch.ones(2, 4))
    assert [event.name for event in profiler.events()].count("aten::mm") == 1
