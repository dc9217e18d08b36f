"""oneDNN-fused and int8 models give right results for batches of any size, in any order.

Intel Extension for PyTorch's known issues: int8 models needed the batch size that was traced on
every stream, and convolutions went wrong where the number of threads changed.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from corestream.runtime.split import part_lengths
from tests.helpers import assert_outputs_match
from tests.unit.runtime.stream_cases import MACHINES, Machine, scripted

on_machines = pytest.mark.parametrize("machine", MACHINES, ids=str)
Lowering = Callable[[nn.Module, torch.Tensor], torch.jit.ScriptModule]


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, (3, 5), stride=2, padding=(1, 2), groups=2)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x)).relu()
        return self.head(self.second(x).relu().mean((2, 3)))


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def images(items: int) -> torch.Tensor:
    return torch.randn(items, 3, 12, 12)


def vectors(items: int) -> torch.Tensor:
    return torch.randn(items, 24)


@pytest.fixture
def onednn_fusion() -> Iterator[None]:
    """oneDNN Graph fuses what TorchScript runs; the switch is the process's."""
    before = torch.jit.onednn_fusion_enabled()
    torch.jit.enable_onednn_fusion(True)
    yield
    torch.jit.enable_onednn_fusion(before)


def frozen(model: nn.Module, example: torch.Tensor) -> torch.jit.ScriptModule:
    with torch.no_grad():
        return torch.jit.freeze(torch.jit.trace(model.eval(), example))


def dynamic_int8(model: nn.Module, example: torch.Tensor) -> torch.jit.ScriptModule:
    """int8 linear layers whose activations' scale is found for every call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is deprecated
        quantized = torch.ao.quantization.quantize_dynamic(model.eval(), {nn.Linear})
        return frozen(quantized, example)


def static_int8(model: nn.Module, example: torch.Tensor) -> torch.jit.ScriptModule:
    """int8 layers, calibrated with the example."""
    from torch.ao.quantization import QConfigMapping, get_default_qconfig, quantize_fx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapping = QConfigMapping().set_global(get_default_qconfig("x86"))
        prepared = quantize_fx.prepare_fx(model.eval(), mapping, (example,))
        prepared(example)
        return frozen(quantize_fx.convert_fx(prepared), example)


def direct(model: Callable[..., torch.Tensor], x: torch.Tensor, machine: Machine) -> torch.Tensor:
    """The parts run one after the other: a dynamic scale is that of the part."""
    parts = x.split(part_lengths(len(x), num_parts=machine.num_streams))
    return torch.cat([model(part) for part in parts])


def batch_sizes(machine: Machine) -> list[int]:
    """1 to 2 * streams + 1, each twice, so that each also comes after another one."""
    sizes = 2 * list(range(1, 2 * machine.num_streams + 2))
    random.Random(machine.num_streams).shuffle(sizes)
    return sizes


def check_all_sizes(
    machine: Machine,
    *,
    model: torch.jit.ScriptModule,
    reference: Callable[..., torch.Tensor],
    make: Callable[[int], torch.Tensor],
) -> None:
    with machine.run(model) as streams, torch.no_grad():
        for items in batch_sizes(machine):
            x = make(items)
            assert_outputs_match(streams(x), direct(reference, x, machine))


@on_machines
@pytest.mark.parametrize(("kind", "make"), [(ConvNet, images), (MLP, vectors)])
@pytest.mark.usefixtures("onednn_fusion")
def test_frozen_with_onednn_fusion(machine, kind, make):
    model = kind()
    fused = frozen(model, make(4))
    check_all_sizes(machine, model=fused, reference=model.eval(), make=make)


@pytest.mark.usefixtures("onednn_fusion")
def test_shapes_that_meet_for_the_first_time():
    # TorchScript profiles a shape's first run. Two streams that profile one graph with two shapes
    # would make a kernel for one of them that also accepts the other (oneDNN Graph's guard).
    machine = Machine(num_streams=3, num_cpus=3, is_real=False)
    for trial in range(10):
        model = ConvNet()
        fused = frozen(model, images(4))
        with machine.run(fused) as streams, torch.no_grad():
            batches = [images(4 + (trial + index) % 8) for index in range(8)]
            futures = [streams.forward_async(batch) for batch in batches]
            for batch, future in zip(batches, futures, strict=True):
                assert_outputs_match(future.get(), direct(model, batch, machine))


@on_machines
@pytest.mark.usefixtures("onednn_fusion")
def test_frozen_with_onednn_fusion_in_bf16(machine):
    model = ConvNet().eval().bfloat16()
    fused = frozen(model, images(4).bfloat16())
    with machine.run(fused) as streams, torch.no_grad():
        for items in batch_sizes(machine):
            x = images(items).bfloat16()
            assert_outputs_match(streams(x), direct(model, x, machine))


@on_machines
def test_optimized_for_inference(machine):
    model = ConvNet()
    with torch.no_grad():
        packed = torch.jit.optimize_for_inference(frozen(model, images(4)))
    check_all_sizes(machine, model=packed, reference=model.eval(), make=images)


@on_machines
def test_scripted_and_never_warmed_up(machine):
    model = ConvNet()
    check_all_sizes(machine, model=scripted(model), reference=model.eval(), make=images)


@on_machines
@pytest.mark.parametrize(
    ("kind", "make", "lower"),
    [(MLP, vectors, dynamic_int8), (MLP, vectors, static_int8), (ConvNet, images, static_int8)],
)
def test_int8(machine, kind, make, lower: Lowering):
    model = kind()
    quantized = lower(model, make(4))
    check_all_sizes(machine, model=quantized, reference=quantized, make=make)


@pytest.mark.parametrize(
    ("kind", "make", "lower"),
    [(MLP, vectors, dynamic_int8), (MLP, vectors, static_int8), (ConvNet, images, static_int8)],
)
def test_the_int8_models_are_int8_and_near_the_original(kind, make, lower: Lowering):
    model, x = kind(), make(16)
    quantized = lower(model, x)
    operators = {node.kind() for node in quantized.inlined_graph.nodes()}
    assert any(operator.startswith("quantized::") for operator in operators)
    with torch.no_grad():
        expected = model(x)
        error = (quantized(x) - expected).abs().max()
    assert 0 < error < 0.1 * expected.abs().max()
