"""Packages with code of its own for some batch sizes."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

import corestream
from corestream import _native
from corestream.errors import LoweringError
from corestream.lowering.aoti import AOTInductorArtifact
from corestream.lowering.aoti_package import model_folder, name_of_batch
from corestream.lowering.api import lower
from corestream.lowering.own_linear import LinearShape
from corestream.measure.inputs import ModelInputs
from corestream.runtime.task import Task
from tests.helpers import assert_outputs_match
from tests.unit.lowering.compiled import build, request

# Compiles small models.
pytestmark = pytest.mark.timeout(900)


class FixedBatch(nn.Module):
    """An export of it holds for one batch size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(4, -1) if x.shape[0] == 4 else x - 1


@pytest.fixture(scope="module")
def model():
    return nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 3)).eval()


@pytest.fixture(scope="module")
def artifact(model):
    """For streams of two threads, one of which would have nothing to do for one image."""
    inputs = ModelInputs.of(torch.randn(1, 8))
    with pytest.MonkeyPatch.context() as patched:
        # It takes any size, also in code for one.
        patched.setattr(LinearShape, "our_kernel_is_faster", lambda *_, **__: False)
        return build(request(model, inputs, batch_sizes=(1, 4), team_size=2))


def test_any_size_is_right_and_the_report_says_what_the_copy_costs(artifact, model, tmp_path):
    artifact.write(tmp_path)
    for one in (artifact, AOTInductorArtifact.read(tmp_path)):
        assert one.extra_bytes > 0
        assert any("batches of 1 have code and a copy" in note for note in one.notes)
        with corestream.TaskExecutor(num_streams=1) as executor:
            task = Task(one, executor)
            for size in (1, 2, 4, 7):
                x = torch.randn(size, 8)
                with torch.no_grad():
                    expected = model(x)
                assert_outputs_match(task.run_sync(x), expected)
                assert_outputs_match(one.call((x,), {}), expected)


def test_streams_choose_by_the_batch(artifact, tmp_path):
    artifact.write(tmp_path)
    one, three = (model_folder(tmp_path, name_of_batch(size)) for size in (1, 3))
    shutil.copytree(one, three)
    callee = _native.torch_ext.AOTInductorCallee(str(tmp_path), 1, [3])
    callee.set_structure(lambda args, kwargs: list(args), lambda outputs: outputs[0])
    with corestream.TaskExecutor(num_streams=1) as executor:

        def items(size: int) -> int:
            handle = executor._native.submit(callee, (torch.randn(size, 8),), {})
            handle.wait()
            return len(handle.result())

        assert [items(size) for size in (1, 2, 3)] == [1, 2, 1]


def test_a_batch_that_cannot_be_open_is_lowered_for_the_named_sizes():
    model, x = FixedBatch().eval(), torch.randn(4, 6)
    lowered = lower(model, x, backend="aotinductor", batch_sizes=[2, 4], cache=False)
    assert any("only the named batch sizes" in note for note in lowered.report.notes)
    assert "batches only of 2, 4" in lowered.report.chosen.notes
    for size in (2, 4):
        assert_outputs_match(lowered(x[:size]), model(x[:size]))
    with pytest.raises(ValueError, match=r"sizes \[4, 6\].*got \[3, 6\]"):
        lowered(x[:3])


def test_no_named_size_that_the_model_takes():
    class OnlyFour(nn.Module):
        def forward(self, x):
            return x + torch.zeros(4, 2)

    with pytest.raises(LoweringError, match="must run on batches of 2 or 3"):
        lower(OnlyFour().eval(), torch.rand(4, 2), batch_sizes=[3, 2], dynamic_batch=False)
