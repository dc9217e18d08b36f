"""Which models there are, what they are fed and how much work an item is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.zoo import sequences, vision

Inputs = tuple[Tensor, ...]
Kind = Literal["cnn", "transformer", "other"]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A row of the table.

    Attributes:
        kind: What the targets tell apart.
        build: Makes the model, with the weights its definition starts with.
        inputs: Makes inputs for a batch, from a generator.
        batch: Items of a call when throughput is measured.
        unit: What an item is.
        flops: Floating point operations of an item, where torch cannot count them.
    """

    kind: Kind
    build: Callable[[], nn.Module]
    inputs: Callable[[int, torch.Generator], Inputs]
    batch: int
    unit: str
    flops: float | None = None

    @property
    def is_convolutional(self) -> bool:
        return self.kind == "cnn"


def _images(batch: int, generator: torch.Generator, *, size: int = 224) -> Inputs:
    return (torch.randn(batch, 3, size, size, generator=generator),)


def _text(batch: int, generator: torch.Generator, *, tokens: int) -> Inputs:
    shape = (batch, tokens)
    return torch.randint(1000, 30000, shape, generator=generator), torch.ones(shape).long()


def _clicks(batch: int, generator: torch.Generator) -> Inputs:
    numbers = torch.randn(batch, sequences.DENSE_FEATURES, generator=generator)
    shape = (batch, sequences.TABLES)
    return numbers, torch.randint(0, sequences.ROWS, shape, generator=generator)


def _steps(batch: int, generator: torch.Generator, *, steps: int) -> Inputs:
    return (torch.randn(batch, steps, sequences.LSTM_INPUT, generator=generator),)


def _cnn(build: Callable[[], nn.Module], *, size: int = 224) -> ModelSpec:
    return ModelSpec("cnn", build, partial(_images, size=size), batch=16, unit="img")


def _encoder(build: Callable[[], nn.Module], *, tokens: int) -> ModelSpec:
    return ModelSpec("transformer", build, partial(_text, tokens=tokens), batch=8, unit="seq")


def _torchvision(module: str, function: str, *, size: int = 224, **options: bool) -> ModelSpec:
    return _cnn(partial(vision.torchvision, module, function, **options), size=size)


MODELS: dict[str, ModelSpec] = {
    "ResNet-18": _torchvision("resnet", "resnet18"),
    "ResNet-50": _torchvision("resnet", "resnet50"),
    "ResNet-101": _torchvision("resnet", "resnet101"),
    "ResNet-152": _torchvision("resnet", "resnet152"),
    "ResNeXt-50 32x4d": _torchvision("resnet", "resnext50_32x4d"),
    "ResNeXt-101 32x8d": _torchvision("resnet", "resnext101_32x8d"),
    "MobileNetV1": _cnn(vision.mobilenet_v1),
    "MobileNetV2": _torchvision("mobilenetv2", "mobilenet_v2"),
    "AlexNet": _torchvision("alexnet", "alexnet"),
    "VGG-16": _torchvision("vgg", "vgg16", init_weights=False),
    "GoogLeNet": _torchvision("googlenet", "googlenet", init_weights=False, aux_logits=False),
    "Inception v3": _torchvision(
        "inception", "inception_v3", size=299, init_weights=False, aux_logits=False
    ),
    "ShuffleNetV2": _torchvision("shufflenetv2", "shufflenet_v2_x1_0"),
    "SqueezeNet": _torchvision("squeezenet", "squeezenet1_1"),
    "BERT-base": _encoder(sequences.bert_base, tokens=128),
    "DistilBERT": _encoder(sequences.distilbert, tokens=128),
    "ViT-B/16": ModelSpec("transformer", vision.vit_b_16, _images, batch=8, unit="img"),
    "MiniLM": _encoder(sequences.minilm, tokens=32),
    "DLRM": ModelSpec("other", sequences.Recommender, _clicks, batch=512, unit="item"),
    "LSTM": ModelSpec(
        "other",
        sequences.LSTM,
        partial(_steps, steps=64),
        batch=16,
        unit="seq",
        flops=sequences.lstm_flops(64),
    ),
}


def build(name: str) -> nn.Module:
    """The model in fp32, the same at each call."""
    spec = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = spec.build().eval().requires_grad_(False)
        if spec.is_convolutional:
            vision.keep_activations_alive(model, *example_inputs(name, batch=2, seed=1))
    return model


def example_inputs(name: str, *, batch: int, seed: int = 0) -> Inputs:
    return MODELS[name].inputs(batch, torch.Generator().manual_seed(seed))


def count_flops(name: str, model: nn.Module) -> float:
    """Floating point operations of one item: two per multiply-add."""
    known = MODELS[name].flops
    if known is not None:
        return known
    inputs = example_inputs(name, batch=1)
    # The fused attention of the CPU is not among the operators that the counter knows.
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model(*inputs)
    return float(counter.get_total_flops())
