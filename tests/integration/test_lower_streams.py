"""From an nn.Module to streams in one step: every backend, any batch size, whatever the model."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from corestream import MultiStreamModule, MultiStreamModuleHint, Task, TaskExecutor
from corestream.errors import LoweringError
from corestream.lowering.api import lower
from corestream.lowering.model import LoweredModule
from tests.helpers import assert_outputs_match
from tests.plugins.state_guard import count_stream_threads
from tests.unit.lowering.models import Branch, Mixed, TinyCNN, images

NAMES = ["aotinductor", "torchscript", "eager"]


@torch.library.custom_op("corestream_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2


class Custom(nn.Module):
    """An operator that no compiler knows, and a branch that no trace follows."""

    def forward(self, x):
        y = doubled(x)
        return y if x.sum() > 0 else -y


@pytest.fixture(scope="module")
def cnn():
    return TinyCNN().eval()


@pytest.mark.timeout(600)
def test_a_multi_stream_module_lowers_by_itself(cnn):
    streams = MultiStreamModule(cnn, example_inputs=images(5))
    assert isinstance(streams.model, LoweredModule)
    report = streams.model.report
    # Whether there is a second one for TorchScript depends on the CPU.
    assert list(dict.fromkeys(row.backend for row in report.candidates)) == NAMES
    assert {row.reason for row in report.candidates} == {""}
    assert all(row.median_ms is not None for row in report.candidates)
    num_streams = streams.get_stream_number()
    assert report.num_streams == num_streams
    for size in range(1, 2 * num_streams + 2):
        x = images(size)
        with torch.no_grad():
            assert_outputs_match(streams(x), cnn(x))
    assert streams.executor.audit().is_ok
    streams.executor.shutdown()


@pytest.mark.timeout(600)
def test_what_no_compiler_takes_stays_eager_with_the_reasons():
    model = Custom().eval()
    with TaskExecutor(num_streams=1) as executor:
        task = Task(model, executor, example_inputs=torch.rand(4, 3))
        assert not task.is_native
        for x in (torch.rand(3, 3), -torch.rand(2, 3)):
            assert_outputs_match(task.run_sync(x), model(x))
    with pytest.raises(LoweringError, match="aotinductor: "):
        lower(model, torch.rand(4, 3), backend="aotinductor")
    report = lower(Branch().eval(), torch.rand(4, 3), num_streams=1).report
    assert report.chosen.backend == "eager"
    assert [bool(row.reason) for row in report.candidates] == [True, True, False]


def test_the_eager_backend_takes_any_output_and_does_not_warn():
    model = Mixed().eval()
    lowered = lower(model, torch.rand(4, 3), backend="eager")
    with TaskExecutor(num_streams=1) as executor, warnings.catch_warnings():
        warnings.simplefilter("error")
        x = torch.rand(2, 3)
        assert_outputs_match(Task(lowered, executor).run_sync(x), model(x))
    assert lowered.report.chosen.holds_gil


def test_a_module_that_cannot_be_lowered_leaves_nothing_running(cnn):
    before = count_stream_threads()
    with pytest.raises(LoweringError, match="the model must run on example_inputs"):
        MultiStreamModule(cnn, example_inputs=torch.rand(2, 3))
    with pytest.raises(ValueError, match="eval mode"):
        MultiStreamModule(TinyCNN(), example_inputs=images(2))
    assert count_stream_threads() == before


def test_example_inputs_are_cut_as_the_hint_says(monkeypatch):
    class Columns(nn.Module):
        def forward(self, x):
            return x.sum(0)

    from corestream.lowering import api

    backends = api._backends
    only = api.Options(backend="torchscript")
    monkeypatch.setattr(api, "_backends", lambda options, **model: backends(only, **model))
    streams = MultiStreamModule(
        Columns().eval(),
        2,
        input_split_hint=MultiStreamModuleHint(1),
        output_concat_hint=MultiStreamModuleHint(0),
        example_inputs=torch.rand(3, 8),
    )
    assert streams.model.report.batch_sizes == (3,)
    x = torch.rand(3, 10)
    assert_outputs_match(streams(x), x.sum(0))
    streams.executor.shutdown()
