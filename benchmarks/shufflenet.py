"""ShuffleNetV2 x1.0: the model whose channel shuffles need temporary buffers at every block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# (blocks, channels) of the stages, as in the paper's table 5 (arXiv:1807.11164).
STAGES = ((4, 116), (8, 232), (4, 464))


def _conv(
    channels_in: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
    ]


def _branch(channels_in: int, channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        *_conv(channels_in, channels, 1),
        nn.ReLU(inplace=True),
        *_conv(channels, channels, 3, stride=stride, groups=channels),
        *_conv(channels, channels, 1),
        nn.ReLU(inplace=True),
    )


def _shuffle(x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    halves = x.view(batch, 2, channels // 2, height, width)
    return halves.transpose(1, 2).reshape(batch, channels, height, width)


class Unit(nn.Module):
    """Half of the channels pass by; strided units convolve both halves."""

    def __init__(self, channels_in: int, channels: int, *, stride: int) -> None:
        super().__init__()
        half = channels // 2
        self.is_strided = stride > 1
        if self.is_strided:
            self.left = nn.Sequential(
                *_conv(channels_in, channels_in, 3, stride=stride, groups=channels_in),
                *_conv(channels_in, half, 1),
                nn.ReLU(inplace=True),
            )
        self.right = _branch(channels_in if self.is_strided else half, half, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.is_strided:
            return _shuffle(torch.cat([self.left(x), self.right(x)], 1))
        left, right = x.chunk(2, 1)
        return _shuffle(torch.cat([left, self.right(right)], 1))


def shufflenet_v2() -> nn.Module:
    """ShuffleNetV2 x1.0 for images of 224 by 224, with 1000 classes."""
    layers: list[nn.Module] = [*_conv(3, 24, 3, stride=2), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    width = 24
    for blocks, channels in STAGES:
        layers.append(Unit(width, channels, stride=2))
        layers += [Unit(channels, channels, stride=1) for _ in range(blocks - 1)]
        width = channels
    layers += [*_conv(width, 1024, 1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))
