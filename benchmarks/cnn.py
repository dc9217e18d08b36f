"""ResNet-50 and MobileNetV2 as plain PyTorch, for 224 × 224 images.

Sources: He et al. 2015, "Deep Residual Learning for Image Recognition", with the stride in the
3×3 convolution, as everyone has it today; Sandler et al. 2018, "MobileNetV2: Inverted Residuals
and Linear Bottlenecks", table 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# (blocks, width of the 3×3 convolution, stride of the first block)
RESNET50_STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))

# (expansion, output channels, blocks, stride of the first block)
MOBILENET_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    # With the default initialisation the activations of a deep untrained network vanish; with
    # fan_out, which does not count groups, those after depthwise convolutions do.
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
    layers = [conv, nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([activation] if activation else []))


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.path = nn.Sequential(
            _conv(inputs, width, activation=nn.ReLU(inplace=True)),
            _conv(width, width, kernel=3, stride=stride, activation=nn.ReLU(inplace=True)),
            _conv(width, outputs),
        )
        is_same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if is_same else _conv(inputs, outputs, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.path(x) + self.shortcut(x))


class InvertedResidual(nn.Module):
    """1×1 expansion, 3×3 depthwise, 1×1 projection, with a shortcut where shapes allow."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [_conv(inputs, hidden, activation=nn.ReLU6(inplace=True))] if expansion > 1 else []
        depthwise = _conv(
            hidden,
            hidden,
            kernel=3,
            stride=stride,
            groups=hidden,
            activation=nn.ReLU6(inplace=True),
        )
        self.path = nn.Sequential(*layers, depthwise, _conv(hidden, outputs))
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.path(x)
        return x + out if self.has_shortcut else out


class Classifier(nn.Module):
    """Features, their mean over the image, and one linear layer."""

    def __init__(self, features: nn.Module, channels: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(channels, 1000)

    def forward(self, images: Tensor) -> Tensor:
        features = nn.functional.adaptive_avg_pool2d(self.features(images), 1)
        logits: Tensor = self.head(features.flatten(1))
        return logits


def resnet50() -> nn.Module:
    layers: list[nn.Module] = [
        _conv(3, 64, kernel=7, stride=2, activation=nn.ReLU(inplace=True)),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    channels = 64
    for blocks, width, stride in RESNET50_STAGES:
        for block in range(blocks):
            layers.append(Bottleneck(channels, width, stride=stride if block == 0 else 1))
            channels = 4 * width
    return Classifier(nn.Sequential(*layers), channels)


def mobilenet_v2() -> nn.Module:
    layers: list[nn.Module] = [_conv(3, 32, kernel=3, stride=2, activation=nn.ReLU6(inplace=True))]
    channels = 32
    for expansion, outputs, blocks, first_stride in MOBILENET_STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            layers.append(InvertedResidual(channels, outputs, expansion=expansion, stride=stride))
            channels = outputs
    layers.append(_conv(channels, 1280, activation=nn.ReLU6(inplace=True)))
    return Classifier(nn.Sequential(*layers), 1280)
