"""TorchScript: fused for the sizes that come, right for all others, nothing left switched on."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from corestream import MultiStreamModule, Task, TaskExecutor
from corestream.errors import LoweringError
from corestream.lowering import own_layers
from corestream.lowering.api import lower
from corestream.lowering.saved import load
from corestream.lowering.torchscript import TorchScriptArtifact
from corestream.measure.numerics import compare
from tests.helpers import assert_outputs_match
from tests.unit.lowering.models import (
    BatchConstant,
    Branch,
    LastState,
    Mixed,
    Named,
    TinyCNN,
    images,
    tiny_bert,
)


class Flagged(nn.Module):
    def forward(self, x, times: int):
        return x * times


def operators_of(task: Task, *args) -> set[str]:
    with torch.no_grad(), torch.autograd.profiler.profile() as profile:
        task.run_sync(*args)
    return {event.key for event in profile.key_averages()}


@pytest.fixture(scope="module")
def cnn():
    return TinyCNN().eval()


@pytest.fixture
def lowered(cnn, monkeypatch):
    """By oneDNN's fusion, whichever of TorchScript's two candidates would be faster."""
    monkeypatch.setattr(own_layers, "may_have_own_layers", lambda _: False)
    return lower(cnn, images(5), backend="torchscript", num_streams=2)


def test_every_size_of_the_split_is_fused_on_streams_made_later(lowered):
    assert lowered.report.batch_sizes == (2, 3)
    with TaskExecutor(num_streams=2) as executor:
        task = Task(lowered, executor)
        assert task.is_native
        for size in (3, 2, 3):
            operators = operators_of(task, images(size))
            assert any(name.startswith("LlgaPartition") for name in operators), size
            assert "aten::_convolution" not in operators, size


def test_a_size_that_was_not_named_is_fused_after_warm_up(lowered):
    with TaskExecutor(num_streams=1) as executor:
        task = Task(lowered, executor)
        task.warm_up(images(9))
        assert "aten::_convolution" not in operators_of(task, images(9))


@pytest.mark.parametrize("before", [False, True])
def test_the_fusion_flag_is_left_as_it_was(cnn, before):
    torch.jit.enable_onednn_fusion(before)
    try:
        lowered = lower(cnn, images(2), backend="torchscript", num_streams=1)
        lowered(images(2))
        assert torch._C._jit_llga_enabled() is before
    finally:
        torch.jit.enable_onednn_fusion(False)


def test_the_same_compiled_graph_serves_all_who_take_the_model(lowered):
    assert lowered.callee_source() is lowered.callee_source()
    before = lowered.artifact.extra_bytes
    with TaskExecutor(num_streams=2) as executor:
        Task(lowered, executor)
    assert lowered.artifact.extra_bytes == before


def test_the_weights_that_need_no_conversion_are_the_models_own():
    linear = nn.Linear(512, 512).eval()
    lowered = lower(linear, torch.rand(4, 512), backend="torchscript")
    assert lowered.report.chosen.weight_bytes == 4 * (512 * 512 + 512)
    constants = {
        node.t("value").data_ptr()
        for node in lowered._artifact._script.graph.nodes()
        if node.hasAttribute("value") and node.kindOf("value") == "t"
    }
    assert {linear.weight.data_ptr(), linear.bias.data_ptr()} <= constants


@pytest.mark.parametrize("structured", [False, True], ids=["a tensor", "a structure"])
def test_a_direct_call_runs_as_a_stream_does(structured):
    class Doubled(nn.Module):
        def forward(self, x):
            return {"twice": x * 2, "once": [x + 0]} if structured else x * 2

    x = torch.rand(3, 5)
    lowered = lower(Doubled().eval(), x, backend="torchscript", num_streams=1)
    callee = lowered.callee_source()
    assert callee.can_run_here
    assert callee.run_here((torch.rand(7, 5),), {}, may_settle=False) is NotImplemented
    for _ in range(3):
        assert_outputs_match(lowered(x), Doubled()(x))
    # Two calls settle a shape, in the modes and on a team of the size that they were made with.
    assert callee.run_here((x,), {}, may_settle=False) is not NotImplemented
    with torch.inference_mode():
        assert callee.run_here((x,), {}, may_settle=False) is NotImplemented


def test_errors_of_a_direct_call_are_the_models_own():
    lowered = lower(nn.Linear(6, 4).eval(), torch.rand(3, 6), backend="torchscript")
    with pytest.raises(RuntimeError, match=r"shapes|size"):
        lowered(torch.rand(3, 5))
    with pytest.raises(RuntimeError, match="missing value for argument"):
        lowered()


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (Named(), {"x": torch.rand(4, 6), "scale": torch.rand(4, 1)}),
        (Named(), (torch.rand(4, 6), torch.rand(4))),
        (LastState(), torch.rand(3, 5, 6)),
        (nn.Sequential(nn.Conv1d(3, 4, 2), nn.Flatten(), nn.Linear(20, 2)), torch.rand(2, 3, 6)),
    ],
    ids=["keywords", "positional", "lstm", "conv1d"],
)
def test_any_batch_size_is_right_on_streams(model, example):
    model = model.eval()
    lowered = lower(model, example, backend="torchscript")
    is_named = isinstance(example, dict)
    tensors = list(example.values()) if is_named else example
    tensors = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
    streams = MultiStreamModule(lowered)
    for size in range(1, 2 * streams.get_stream_number() + 2):
        inputs = [torch.rand(size, *tensor.shape[1:]) for tensor in tensors]
        kwargs = dict(zip(example, inputs, strict=True)) if is_named else {}
        args = () if is_named else inputs
        with torch.no_grad():
            expected = model(*args, **kwargs)
        assert_outputs_match(streams(*args, **kwargs), expected)
        assert_outputs_match(lowered(*args, **kwargs), expected)
    streams.executor.shutdown()


def test_a_bert_and_what_the_tracer_warns_of():
    model = tiny_bert()
    ids = torch.randint(0, 50, (4, 7))
    mask = torch.ones(4, 7, dtype=torch.long)
    mask[:2, 4:] = 0
    lowered = lower(model, {"input_ids": ids, "attention_mask": mask}, backend="torchscript")
    warned = [note for note in lowered.report.chosen.notes if "Python boolean" in note]
    assert warned
    assert all("/transformers/" in note for note in warned)
    with torch.no_grad():
        assert_outputs_match(lowered(ids, mask), model(ids, mask))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inside_keeps_the_dtypes_outside(cnn, dtype):
    lowered = lower(cnn, images(4), backend="torchscript", dtype=dtype)
    x = images(4)
    with torch.no_grad():
        expected = cnn(x)
    output = lowered(x)
    assert output.dtype == torch.float32
    assert not torch.equal(output, expected)
    assert (output - expected).abs().max() < 0.05 * expected.abs().max()
    assert cnn.conv.weight.dtype == torch.float32
    chosen = lowered.report.chosen
    assert chosen.dtype == str(dtype).removeprefix("torch.")
    # Half the bytes of the weights; of the BN that is folded nothing is left.
    own = sum(p.nbytes for p in (*cnn.conv.parameters(), *cnn.head.parameters()))
    assert chosen.weight_bytes <= own


def test_a_model_that_views_its_channels_is_lowered_in_its_own_layout():
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x).view(x.size(0), -1)

    model = Views().eval()
    lowered = lower(model, images(2), backend="torchscript")
    assert any("channels_last" in note for note in lowered.report.chosen.notes)
    x = images(3)
    with torch.no_grad():
        assert_outputs_match(lowered(x), model(x))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Branch(), "wrong for other values"),
        (BatchConstant(), "must match the size"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_a_trace_gets_wrong_is_found(model, reason):
    with pytest.raises(LoweringError, match=reason):
        lower(model.eval(), torch.rand(6, 5), backend="torchscript")


def test_a_flag_is_part_of_the_graph():
    lowered = lower(Flagged().eval(), (torch.rand(2, 3), 3), backend="torchscript")
    x = torch.rand(5, 3)
    assert_outputs_match(lowered(x, 3), x * 3)
    with pytest.raises(ValueError, match=r"must be \[3\].*got \[4\]"):
        lowered(x, 4)
    with pytest.raises(TypeError, match="structure"):
        lowered(x)


@pytest.mark.parametrize(
    "model", [Mixed().eval(), tiny_bert(return_dict=True)], ids=["mixed", "bert"]
)
def test_results_of_any_structure_here_and_from_a_file(model, tmp_path):
    is_bert = not isinstance(model, Mixed)
    example = {"input_ids": torch.randint(0, 50, (4, 7))} if is_bert else {"x": torch.rand(4, 7)}
    lowered = lower(model, example, backend="torchscript", num_streams=1)
    other = {name: tensor[:3].flip(1) for name, tensor in example.items()}
    with torch.no_grad():
        expected = model(**other)
    for one in (lowered, load(lowered.save(tmp_path / "model.pt2"))):
        with TaskExecutor(num_streams=1) as executor:
            task = Task(one, executor)
            assert task.is_native
            for result in (one(**other), task.run_sync(**other)):
                assert type(result) is type(expected)
                assert compare(result, expected, dtype=torch.float32).is_within


class Strange(nn.Module):
    def forward(self, x):
        return x, object()


def test_a_result_that_no_graph_can_hold():
    with pytest.raises(LoweringError, match="returns a object"):
        lower(Strange().eval(), torch.rand(2, 3), backend="torchscript")


def test_threads_that_call_it_with_shapes_of_their_own(lowered, cnn):
    start = threading.Barrier(4)
    failures: list[BaseException] = []

    def call(size: int) -> None:
        x = images(size)
        with torch.no_grad():
            expected = cnn(x)
        start.wait()
        try:
            for _ in range(6):
                assert_outputs_match(lowered(x), expected)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=call, args=(size,)) for size in (1, 4, 6, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_what_was_written_is_specialised_when_streams_take_it(lowered, cnn, tmp_path):
    lowered.artifact.write(tmp_path)
    again = TorchScriptArtifact.read(tmp_path)
    assert again.weight_bytes == lowered.artifact.weight_bytes
    with TaskExecutor(num_streams=1) as executor:
        task = Task(again, executor)
        assert "aten::_convolution" not in operators_of(task, images(3))
        x = images(3)
        with torch.no_grad():
            assert_outputs_match(task.run_sync(x), cnn(x))
