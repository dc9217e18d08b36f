"""`lower`: what it refuses, what it reports, and that it leaves the process as it was."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest
import torch
from torch import nn

import corestream
from corestream import CPUPool, MultiStreamModule, Task, TaskExecutor
from corestream.errors import CorestreamWarning, LoweringError
from corestream.lowering import api
from corestream.lowering.api import lower
from corestream.lowering.model import LoweredModule
from corestream.lowering.report import LoweringReport
from corestream.runtime.threads import thread_ids
from tests.helpers import assert_outputs_match
from tests.unit.lowering.models import TinyCNN, images


@pytest.fixture(scope="module")
def cnn():
    return TinyCNN().eval()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "tensorrt"}, ValueError, 'backend must be "aotinductor", "torchscript"'),
        ({"dtype": "half"}, ValueError, "dtype must be a floating point dtype"),
        ({"dtype": torch.int8}, ValueError, "dtype must be a floating point dtype"),
        ({"team_size": 0}, ValueError, "team_size must be"),
        ({"team_size": 1.0}, TypeError, "team_size must be"),
        ({"num_streams": 10**6}, ValueError, "num_streams must be"),
        ({"cpu_pool": [0]}, TypeError, "cpu_pool must be a CPUPool"),
        ({"batch_sizes": []}, ValueError, "batch_sizes must be"),
        ({"batch_sizes": [0]}, ValueError, "batch_sizes must be"),
        ({"batch_sizes": ["8"]}, TypeError, "batch_sizes must be"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(cnn, options, error, message):
    with pytest.raises(error, match=message):
        lower(cnn, images(2), **options)


def test_models_and_inputs_of_the_wrong_kind_are_refused(cnn):
    with pytest.raises(ValueError, match=r"model must be in eval mode.*call model.eval\(\)"):
        lower(TinyCNN(), images(2))
    with pytest.raises(TypeError, match=r"model must be an nn\.Module"):
        lower(cnn.forward, images(2))
    with pytest.raises(TypeError, match="example_inputs must be"):
        lower(cnn, 3)
    with pytest.raises(ValueError, match="example_inputs must be on the CPU"):
        lower(cnn, images(2).to("meta"))
    with pytest.raises(LoweringError, match="the model must run on example_inputs"):
        lower(cnn, torch.rand(2, 7))


def test_streams_and_sizes_follow_from_what_is_given():
    pool = CPUPool()
    cores = len(pool)
    assert api._streams(pool, team_size=None, num_streams=None) == (pool, cores)
    assert api._streams(pool, team_size=cores, num_streams=None) == (pool, 1)
    assert api._streams(pool, team_size=None, num_streams=1) == (pool, 1)
    first = CPUPool(pool.core_ids[:1])
    assert api._streams(pool, team_size=1, num_streams=1) == (first, 1)


@pytest.mark.parametrize(
    ("example", "num_streams", "sizes"),
    [(8, 3, (2, 3)), (8, 2, (4,)), (2, 5, (1,)), (1, 1, (1,))],
)
def test_the_sizes_are_those_of_the_split(example, num_streams, sizes):
    inputs = api.check_arguments(nn.ReLU().eval(), torch.rand(example, 2), options=api.Options())
    assert api._batch_sizes(inputs, None, num_streams=num_streams, dynamic=True) == sizes


def test_the_report_is_a_table_and_goes_through_dicts(cnn):
    report = lower(cnn, images(4), backend="torchscript", num_streams=1).report
    text = str(report)
    assert "lowered for 1 streams of" in text
    assert "*  torchscript" in text
    assert LoweringReport.from_dict(report.to_dict()) == report
    chosen = report.chosen
    assert chosen.p10_ms <= chosen.median_ms <= chosen.p90_ms
    assert chosen.error <= chosen.error_limit
    assert chosen.holds_gil is False


def test_the_callers_thread_and_model_are_left_alone(cnn):
    before = copy.deepcopy(cnn.state_dict())
    is_grad_wanted = [parameter.requires_grad for parameter in cnn.parameters()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = lower(cnn, images(2), backend="torchscript", dtype=torch.bfloat16)
        assert torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled()
    assert [parameter.requires_grad for parameter in cnn.parameters()] == is_grad_wanted
    assert not cnn._forward_hooks
    assert not cnn._forward_pre_hooks
    for name, tensor in cnn.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert lowered(images(2)).dtype == torch.float32


def test_no_thread_and_no_openmp_team_is_left(cnn):
    corestream.release_idle_team()
    before = thread_ids()
    lowered = lower(cnn, images(4), backend="torchscript", num_streams=1)
    assert thread_ids() == before
    assert corestream.runtime_info()["openmp"]["other_idle_workers"] in ({}, None)
    with TaskExecutor() as executor:
        task = Task(lowered, executor)
        task.warm_up(images(4))
        assert executor.audit().is_ok


def test_threads_that_lower_at_once_take_turns(monkeypatch):
    building = threading.Semaphore(1)
    build = api._backends

    class Alone:
        name, variant = "torchscript", ""

        def __init__(self, inner):
            self.inner = inner

        def build(self, request):
            assert building.acquire(blocking=False), "two at once"
            try:
                return self.inner.build(request)
            finally:
                building.release()

    def alone(*args, **kwargs):
        return [Alone(one) for one in build(*args, **kwargs)]

    monkeypatch.setattr(api, "_backends", alone)
    models = [nn.Linear(3, size).eval() for size in (2, 3, 4)]
    results: dict[int, object] = {}

    def work(index: int) -> None:
        results[index] = lower(models[index], torch.rand(4, 3), backend="torchscript")

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    x = torch.rand(5, 3)
    for index, model in enumerate(models):
        with torch.no_grad():
            assert_outputs_match(results[index](x), model(x))


def test_a_step_begins_when_the_callback_has_returned():
    """Who measures beside others holds them back in it."""
    calls, before = [], []

    class Counting(nn.Module):
        def forward(self, x):
            calls.append(x.shape)
            return x + 1

    lower(
        Counting().eval(),
        images(2),
        backend="eager",
        num_streams=1,
        progress=lambda step, _: before.append((step, len(calls))),
    )
    assert before[0] == ("running the model", 0)
    assert dict(before)["done"] == len(calls) > 0


def test_a_step_whose_callback_fails_does_not_begin():
    calls = []

    class Counting(nn.Module):
        def forward(self, x):
            calls.append(x.shape)
            return x + 1

    def refuse(step, _):
        if step.endswith("checking"):
            raise KeyboardInterrupt
        before.append(len(calls))

    before: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        lower(Counting().eval(), images(2), backend="eager", num_streams=1, progress=refuse)
    # Lowering anew waits for the thread of the first.
    first = len(calls)
    lower(nn.ReLU().eval(), images(2), backend="eager", num_streams=1, progress=False)
    assert len(calls) == first


def test_lowering_in_the_callback_of_another_is_refused(cnn):
    def again(step, _):
        if step != "done":
            lower(cnn, images(2), backend="eager", progress=again)

    with pytest.raises(RuntimeError, match="must not be called by its progress callback"):
        lower(cnn, images(2), backend="eager", progress=again)
    assert lower(cnn, images(2), backend="eager", progress=False)


def test_a_callback_hears_of_the_progress(cnn):
    heard: list[tuple[str, float]] = []
    lower(cnn, images(2), backend="torchscript", progress=lambda *step: heard.append(step))
    shares = [share for _, share in heard]
    assert heard[-1] == ("done", 1.0)
    assert shares == sorted(shares)


def test_a_callback_that_raises_ends_the_lowering(cnn):
    def refuse(text: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lower(cnn, images(2), backend="torchscript", progress=refuse)


def test_copies_of_a_lowered_module_are_itself(cnn):
    lowered = lower(cnn, images(2), backend="torchscript", num_streams=1)
    assert copy.deepcopy(lowered) is lowered
    streams = MultiStreamModule(lowered, 1)
    twin = copy.deepcopy(streams)
    x = images(3)
    assert torch.equal(twin(x), streams(x))
    for one in (streams, twin):
        one.executor.shutdown()


def test_inputs_without_a_batch_are_lowered_as_they_are():
    class Outer(nn.Module):
        def forward(self, x, y):
            return x[:, None] * y[None]

    lowered = lower(Outer().eval(), (torch.rand(3), torch.rand(4)), backend="torchscript")
    assert lowered.report.batch_sizes == ()
    x, y = torch.rand(3), torch.rand(4)
    assert_outputs_match(lowered(x, y), x[:, None] * y[None])


def test_the_warning_of_the_gil_points_to_lowering(monkeypatch):
    from corestream.runtime import callee

    monkeypatch.setattr(callee, "_SLOW_CALLABLES", set())
    with TaskExecutor(num_streams=1) as executor, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Task(nn.ReLU(), executor)
    (warning,) = caught
    assert "example_inputs=" in str(warning.message)
    assert "corestream.lower" in str(warning.message)


def test_streams_of_another_size_than_was_compiled_for_are_warned_of():
    class Compiled:
        """As AOTInductor's: machine code with a number of threads in it."""

        backend = "aotinductor"
        weight_bytes = extra_bytes = 0
        holds_gil = False
        notes = ()

        def callee_source(self):
            return torch.relu

    report = LoweringReport((), team_size=7, num_streams=1, batch_sizes=())
    lowered = LoweredModule(Compiled(), report)
    with (
        TaskExecutor(num_streams=len(CPUPool())) as executor,
        pytest.warns(CorestreamWarning, match="teams of 7.*lower it with team_size=1"),
    ):
        Task(lowered, executor)


def test_a_child_forked_while_another_thread_lowers_can_lower():
    program = """
        import os, threading, warnings
        warnings.simplefilter("ignore")
        import torch
        from corestream.lowering.isolation import IsolatedCall

        started, end = threading.Event(), threading.Event()
        def busy():
            started.set()
            end.wait()
        thread = IsolatedCall(busy)
        thread.start()
        started.wait()
        child = os.fork()
        if child == 0:
            value = IsolatedCall(lambda: 5).wait(lambda: None, every_s=0.1)
            os._exit(value)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        end.set()
        thread.join()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False, timeout=60)
    assert done.returncode == 0
