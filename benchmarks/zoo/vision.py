"""Image classifiers: torchvision's definitions, MobileNetV1 and ViT from transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.zoo.definitions import torchvision_models


class Logits(nn.Module):
    """A classifier of transformers whose answer is one tensor."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images, return_dict=False)[0]
        return logits


def torchvision(module: str, function: str, **options: Any) -> nn.Module:
    model: nn.Module = getattr(torchvision_models(module), function)(weights=None, **options)
    return model


def mobilenet_v1() -> nn.Module:
    from transformers import MobileNetV1Config, MobileNetV1ForImageClassification

    # Padded as PyTorch does it, not as TensorFlow, which takes an operation of its own per layer.
    config = MobileNetV1Config(tf_padding=False, num_labels=1000)
    return Logits(MobileNetV1ForImageClassification(config))


def vit_b_16() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return Logits(ViTForImageClassification(ViTConfig(num_labels=1000)))


def keep_activations_alive(model: nn.Module, images: Tensor) -> None:
    """Sets random weights and statistics under which activations neither vanish nor explode.

    Each convolution keeps the variance, and each batch norm has the statistics of `images`, as
    after training; with the ones that it starts with, a residual sum doubles with every block.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    model.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # of one batch, all of it
        norm.train()
    with torch.no_grad():
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
