from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import corestream
from corestream.lowering.aoti import AOTInductorBackend
from corestream.lowering.aoti_export import export_program
from corestream.measure.inputs import ModelInputs
from corestream.measure.numerics import compare
from corestream.runtime.streams import MultiStreamModule
from corestream.runtime.task import Task
from tests.unit.lowering.compiled import build, compiled_net, make_inputs, make_net, request

# The first test of a session compiles.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def compiled():
    return compiled_net()


def assert_same(actual, inputs, *, dtype=torch.float32, model=None):
    with torch.no_grad():
        expected = inputs.call(model or make_net())
    difference = compare(actual, expected, dtype=dtype)
    assert difference.is_within, difference.reason


def run(artifact, inputs):
    return artifact.call(inputs.args, inputs.kwargs)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 17])
def test_any_batch_size_is_right(compiled, batch):
    inputs = make_inputs(batch, seed=batch)
    assert_same(run(compiled.artifact, inputs), inputs)


def test_other_memory_layouts_are_right(compiled):
    image, flag = make_inputs(4).args
    scale = make_inputs(4).kwargs["scale"]
    wide = torch.randn(8, 3, 24, 24)
    for other in (
        image.contiguous(memory_format=torch.channels_last),
        image.transpose(2, 3).contiguous().transpose(2, 3),
        wide[::2, :, ::2, ::2],
        image[:1].expand(4, -1, -1, -1),
        image.clone().requires_grad_(),
    ):
        inputs = ModelInputs((other, flag), {"scale": scale})
        assert_same(run(compiled.artifact, inputs), inputs)


def test_inputs_that_the_code_would_misread_are_refused(compiled):
    (image, flag), kwargs = make_inputs(4).args, make_inputs(4).kwargs
    call = compiled.artifact.call
    with pytest.raises(TypeError, match=r"input 0 must be torch.float32.*got torch.float64"):
        call((image.double(), flag), kwargs)
    with pytest.raises(ValueError, match=r"input 0 must have the sizes \[any, 3, 12, 12\].*6"):
        call((image[:, :, :6], flag), kwargs)
    with pytest.raises(ValueError, match=r"must be \[True\].*got 2 tensors and \[False\]"):
        call((image, False), kwargs)
    scale = torch.ones(3)
    with pytest.raises(ValueError, match=r"one size of dim 0.*got \[3, 4\]"):
        call((image, True), {"scale": scale})
    with pytest.raises(TypeError, match="must have the structure"):
        call((image,), kwargs)


def test_streams_run_it(compiled):
    inputs = make_inputs(5)
    executor = corestream.TaskExecutor(corestream.CPUPool(corestream.allowed_cpus()))
    task = Task(compiled.artifact, executor)
    assert_same(task(*inputs.args, **inputs.kwargs).get(), inputs)


def test_multi_stream_module_splits_it(compiled):
    hint = corestream.MultiStreamModuleHint(0, None, scale=0)
    streams = MultiStreamModule(compiled.artifact, input_split_hint=hint, num_streams=1)
    inputs = make_inputs(7)
    assert_same(streams(*inputs.args, **inputs.kwargs), inputs)


def test_threads_may_call_at_once(compiled):
    many = [make_inputs(n % 5 + 1, seed=n) for n in range(24)]
    with ThreadPoolExecutor(4) as pool:
        for inputs, output in zip(
            many, pool.map(lambda i: run(compiled.artifact, i), many), strict=True
        ):
            assert_same(output, inputs)


def test_building_leaves_nothing_behind(compiled):
    assert compiled.environment_after == compiled.environment_before
    assert compiled.threads_after <= compiled.threads_before
    assert compiled.new_folders == {compiled.artifact.package.name}
    assert compiled.grad_mode_after


def test_the_model_stays_as_it_is(compiled):
    fresh = make_net().state_dict()
    assert list(compiled.model.state_dict()) == list(fresh)
    assert all(torch.equal(compiled.model.state_dict()[name], fresh[name]) for name in fresh)
    assert not compiled.model._forward_hooks
    assert not compiled.model._forward_pre_hooks


def test_the_folder_ends_with_the_artifact(compiled, tmp_path):
    compiled.artifact.write(tmp_path)
    again = type(compiled.artifact).read(tmp_path)
    folder = again.package
    assert_same(run(again, make_inputs(2)), make_inputs(2))
    assert folder.exists()
    del again
    gc.collect()
    assert not folder.exists()


def test_facts(compiled):
    plain = sum(tensor.nbytes for tensor in compiled.model.state_dict().values())
    assert plain / 2 < compiled.artifact.weight_bytes < 20 * plain
    assert compiled.artifact.extra_bytes == 0
    assert not compiled.artifact.holds_gil
    assert "batches of any size, fastest of 4" in compiled.artifact.notes


def test_half_precision_keeps_the_dtypes_outside():
    """One size only, in bfloat16, for a team of one: without OpenMP."""
    net = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4)).eval()
    inputs = ModelInputs.of(torch.randn(3, 8))
    wanted = request(net, inputs, dynamic_batch=False, dtype=torch.bfloat16, team_size=1)
    artifact = build(wanted)
    output = run(artifact, inputs)
    assert output.dtype == torch.float32
    assert_same(output, inputs, dtype=torch.bfloat16, model=net)
    assert net[0].weight.dtype == torch.float32
    with pytest.raises(ValueError, match=r"\[3, 8\]"):
        run(artifact, inputs.with_batch(2))


class DataDependent(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x


class FixedBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(4, -1) if x.shape[0] == 4 else x


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class InPlace(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)


class Sized(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        return x + 1, 7


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (DataDependent(), "control flow depends on its tensors' values"),
        (FixedBatch(), "made the batch size a constant.*dynamic_batch=False"),
        (Counting(), "changes its buffers in forward: calls"),
        (InPlace(), "changes its inputs in place: x"),
        (Sized(), "values besides tensors"),
    ],
)
def test_what_cannot_be_exported_says_why(model, reason):
    with pytest.raises(ValueError, match=reason):
        build(request(model.eval(), ModelInputs.of(torch.randn(4, 6))))


def test_a_fixed_batch_can_be_exported():
    inputs = ModelInputs.of(torch.randn(4, 6))
    with torch.no_grad():
        program = export_program(FixedBatch(), inputs, dynamic_batch=False)
    assert program.module()(*inputs.args).shape == (4, 6)


def test_no_compiler_says_so():
    from torch._inductor import config

    wanted = request(nn.Linear(3, 2).eval(), ModelInputs.of(torch.randn(2, 3)))
    with (
        config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        torch.no_grad(),
        pytest.raises(RuntimeError, match=r"a C\+\+ compiler must be installed.*no-such-compiler"),
    ):
        AOTInductorBackend().build(wanted)
    assert "corestream-lower" not in {thread.name for thread in threading.enumerate()}
