"""`Task`: TorchScript, modules and callables, on one set of weights."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import pytest
import torch

import corestream
from corestream import CPUPool, Task, TaskExecutor
from corestream.errors import CorestreamWarning, ShutDown
from tests.unit.runtime.gate import Gate
from tests.unit.runtime.operators import observed
from tests.unit.runtime.proc import DEADLINE_S, is_over_without_the_gil


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((2,), 3.0))

    def forward(self, x, scale: float = 2.0, shift: torch.Tensor | None = None):
        y = x * self.weight * scale
        if shift is not None:
            y = y + shift
        return {"y": y, "same": x}


class Weight(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(2))

    def forward(self, x):
        return self.weight


class Meeting(torch.nn.Module):
    def forward(self, x):
        y = torch.ops.corestream_tests.observe(x, 0)
        for _ in range(3):
            y = torch.relu(y) + 1
        return y


@torch.jit.script
def add(x, y, alpha: int = 1):
    return x + alpha * y


def expected(x, scale=2.0, shift=0.0):
    return {"y": x * 3 * scale + shift, "same": x}


@pytest.fixture(params=["scripted", "frozen", "function", "module"])
def scaled(request):
    module = Scaled().eval()
    return {
        "scripted": lambda: torch.jit.script(module),
        "frozen": lambda: torch.jit.freeze(torch.jit.script(module)),
        "function": lambda: module.forward,
        "module": lambda: module,
    }[request.param]()


@pytest.mark.filterwarnings("ignore:Scaled is an nn.Module:corestream.errors.CorestreamWarning")
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((0.5,), {}),
        ((), {"scale": 0.5}),
        ((), {"shift": torch.ones(2)}),
        ((0.5, torch.ones(2)), {}),
        ((), {"shift": torch.ones(2), "scale": 4.0}),
        ((), {"shift": None}),
    ],
)
@torch.no_grad()
def test_arguments_and_defaults(single, scaled, args, kwargs):
    x = torch.tensor([1.0, -1.0])
    wanted = scaled(x, *args, **kwargs)
    with TaskExecutor(single) as executor:
        task = Task(scaled, executor)
        for result in (task(x, *args, **kwargs).get(), task.run_sync(x, *args, **kwargs)):
            assert result.keys() == wanted.keys()
            assert torch.equal(result["y"], wanted["y"])
            assert torch.equal(result["same"], x)
        by_name = task(*args, **({"x": x} | kwargs)) if not args else task(x, *args, **kwargs)
        assert torch.equal(by_name.get()["y"], wanted["y"])


def test_traced_module_and_scripted_function(single):
    x, y = torch.ones(3), torch.arange(3.0)
    with TaskExecutor(single) as executor:
        task = Task(add, executor)
        assert task.is_native
        assert torch.equal(task(x, y).get(), x + y)
        assert torch.equal(task(x, y, 2).get(), x + 2 * y)
        assert torch.equal(task(y=y, x=x, alpha=3).get(), x + 3 * y)
        traced = Task(torch.jit.trace(torch.nn.Linear(3, 2), x), executor)
        assert traced.is_native
        assert traced.run_sync(x).shape == (2,)


@pytest.mark.parametrize("wrong", [(), ("text",), (torch.ones(2), "text")], ids=repr)
def test_wrong_arguments_of_a_script_are_told_at_once(single, wrong):
    with TaskExecutor(single) as executor:
        task = Task(torch.jit.script(Scaled()), executor)
        with pytest.raises((TypeError, RuntimeError), match="forward"):
            task(*wrong)
        assert torch.equal(task.run_sync(torch.ones(2))["y"], torch.full((2,), 6.0))


def test_module_warns_once_of_the_gil(single):
    class OnlyHere(torch.nn.Module):
        def forward(self, x):
            return x + 1

    with TaskExecutor(single) as executor:
        with pytest.warns(CorestreamWarning, match=r"OnlyHere .* holds the GIL") as caught:
            task = Task(OnlyHere(), executor)
        assert caught[0].filename == __file__
        assert not task.is_native
        assert task.run_sync(torch.ones(1)) == 2
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert Task(OnlyHere(), executor).run_sync(torch.ones(1)) == 2
            assert Task(max, executor).run_sync(1, 2) == 2


def test_submitted_module_warns_where_it_is_submitted(single):
    class OnlySubmitted(torch.nn.Module):
        def forward(self, x):
            return x + 1

    with TaskExecutor(single) as executor:
        with pytest.warns(CorestreamWarning, match="OnlySubmitted") as caught:
            future = executor.submit(OnlySubmitted(), torch.ones(1))
        assert caught[0].filename == __file__
        assert future.get() == 2


def test_hooks_of_a_module_run(single):
    module = torch.jit.script(Scaled())
    plain = Scaled()
    plain.register_forward_hook(lambda _module, _args, output: output["y"])
    with TaskExecutor(single) as executor, warnings.catch_warnings():
        warnings.simplefilter("ignore", CorestreamWarning)
        assert torch.equal(Task(plain, executor).run_sync(torch.ones(2)), torch.full((2,), 6.0))
        assert Task(module, executor).run_sync(torch.ones(2)).keys() == {"y", "same"}


@pytest.mark.parametrize("module", [3, None, [max], torch.ones(1)], ids=["3", "None", "list", "t"])
def test_module_of_a_wrong_type(single, module):
    with TaskExecutor(single) as executor, pytest.raises(TypeError, match="module must be a Scri"):
        Task(module, executor)


def test_missing_package(single):
    with TaskExecutor(single) as executor:
        for path in ("missing.pt2", Path("missing.pt2")):
            with pytest.raises(FileNotFoundError, match=r"'missing.pt2', which does not exist"):
                Task(path, executor)


@pytest.mark.parametrize("executor", [None, [0], 0, "0"], ids=repr)
def test_executor_of_a_wrong_type(executor):
    with pytest.raises(TypeError, match="executor must be a TaskExecutor or a CPUPool; got"):
        Task(max, executor)


def test_task_with_a_stream_of_its_own(pair):
    task = Task(max, pair)
    with task.executor as executor:
        assert executor.num_streams == 1
        assert executor.cpu_pool == pair
        assert task.run_sync(1, 2) == 2
    with pytest.raises(ShutDown):
        task(1, 2)


def test_right_results_on_two_streams_at_once(pair):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()).eval()
    batches = [torch.randn(size % 7 + 1, 64) for size in range(100)]
    with torch.inference_mode(), TaskExecutor(pair, 2) as executor:
        task = Task(torch.jit.freeze(torch.jit.trace(module, batches[0])), executor)
        futures = [task(batch) for batch in batches]
        for batch, future in zip(batches, futures, strict=True):
            torch.testing.assert_close(future.get(), module(batch))


def test_one_set_of_weights_for_all_streams(pair):
    module = torch.jit.script(Weight())
    with TaskExecutor(pair, 2) as executor:
        task = Task(module, executor)
        found = set()
        for _ in range(2):
            with Gate(executor) as gate:  # leaves the other stream
                stream = [
                    s.thread_ids[0] for s in executor.streams if gate.thread_id not in s.thread_ids
                ]
                found.add((stream[0], task(torch.ones(1)).get().data_ptr()))
    assert {pointer for _, pointer in found} == {module.weight.data_ptr()}


def test_script_modules_meet_inside_the_model(pair):
    barrier = threading.Barrier(2)
    with TaskExecutor(pair, 2) as executor:
        task = Task(torch.jit.script(Meeting()), executor)
        for _ in range(2):  # a graph's first runs, in which it specialises, take turns
            task.warm_up(torch.ones(2))
        with observed(lambda _place: barrier.wait(DEADLINE_S)):
            futures = [task(torch.full((2,), float(number))) for number in range(2)]
            for number, future in enumerate(futures):
                assert torch.equal(future.get(DEADLINE_S), torch.full((2,), number + 3.0))


def test_script_module_never_takes_the_gil(pair):
    module = torch.jit.trace(torch.nn.Linear(256, 256), torch.ones(1, 256))
    with torch.inference_mode(), TaskExecutor(pair, 2) as executor:
        task = Task(module, executor)
        task.warm_up(torch.ones(512, 256))
        x = torch.ones(512, 256)
        assert is_over_without_the_gil(lambda: [task(x) for _ in range(6)])


def test_that_proof_finds_callables_that_take_the_gil(single):
    with TaskExecutor(single) as executor:
        executor.submit(int).get()
        assert not is_over_without_the_gil(lambda: [executor.submit(int)], patience_s=0.2)


def test_warm_up_runs_three_times_on_every_stream(pair):
    threads = []
    with TaskExecutor(pair, 2) as executor:
        task = Task(lambda: threads.append(threading.get_native_id()), executor)
        task.warm_up()
        workers = [stream.thread_ids[0] for stream in executor.streams]
        assert sorted(threads) == sorted(3 * workers)
        assert all(thread.planned == thread.actual for thread in executor.audit().threads)


def test_warm_up_raises_what_the_module_raises(single):
    def fail():
        raise KeyError("mine")

    with TaskExecutor(single) as executor:
        with pytest.raises(KeyError, match="mine"):
            Task(fail, executor).warm_up()
        with pytest.raises(KeyError, match="mine"):
            Task(fail, executor).run_sync()


def test_task_keeps_its_module_alive(single):
    with TaskExecutor(single) as executor:
        task = Task(torch.jit.script(Scaled()), executor)
        assert torch.equal(task.run_sync(torch.ones(2))["y"], torch.full((2,), 6.0))
        function = Task(torch.jit.trace(lambda x: x + 1, torch.ones(2)), executor)
        assert torch.equal(function.run_sync(torch.ones(2)), torch.full((2,), 2.0))


def test_default_pool():
    with TaskExecutor() as executor:
        assert executor.cpu_pool == CPUPool()
        assert corestream.Task(max, executor).run_sync(1, 2) == 2
