"""Layers that take more than one step are done again in the same way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from corestream.ops import (
    ConvolutionShape,
    LSTMWeights,
    PackedConvolution,
    convolution,
    convolution_chain,
    lstm_layer,
    pack_convolution,
    pack_winograd,
)
from tests.unit.runtime.captured import check_done_again


class Chained(nn.Module):
    """A chain whose images are large enough to be computed by rows, and what follows it."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        sizes = ((64, 16, 1, 1), 1, 1), ((64, 1, 3, 3), 2, 64), ((16, 64, 1, 1), 1, 1)
        self.layers = []
        for size, stride, groups in sizes:
            shape = ConvolutionShape(
                size, stride=(stride, stride), padding=(size[2] // 2,) * 2, groups=groups
            )
            packed = pack_convolution(torch.randn(size, generator=generator) / 8, groups)
            self.layers.append(PackedConvolution(packed=packed, shape=shape, low=0.0))

    def forward(self, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=torch.channels_last)
        half = convolution_chain(image, self.layers)
        return convolution_chain(
            half, self.layers[:2], residual=convolution_chain(half, self.layers[:2])
        )


@pytest.mark.parametrize("num_cores", [1, 2])
def test_a_chain_is_done_again_by_rows(num_cores: int) -> None:
    def image(seed: int) -> tuple[Tensor]:
        return (torch.randn(2, 16, 80, 72, generator=torch.Generator().manual_seed(seed)),)

    check_done_again(Chained(), image, num_cores=num_cores, rtol=1e-4, atol=1e-4)


class Tiled(nn.Module):
    """Two layers by Winograd's algorithm, of which the second adds the image."""

    def __init__(self, tile: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        size = 24, 24, 3, 3
        weight = torch.randn(size, generator=generator) / 15
        self.packed = pack_winograd(weight, tile=tile)
        self.shape = ConvolutionShape(size, padding=(1, 1))

    def forward(self, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=torch.channels_last)
        half = convolution(image, self.packed, shape=self.shape, low=0.0)
        return convolution(half, self.packed, shape=self.shape, residual=image)


@pytest.mark.parametrize("tile", [4, 6])
@pytest.mark.parametrize("num_cores", [1, 2])
def test_tiles_are_made_again(num_cores: int, tile: int) -> None:
    def image(seed: int) -> tuple[Tensor]:
        return (torch.randn(2, 24, 17, 13, generator=torch.Generator().manual_seed(seed)),)

    check_done_again(Tiled(tile), image, num_cores=num_cores, rtol=1e-4, atol=1e-4)


class Recurrent(nn.Module):
    """Two layers of an LSTM; its first state is an input."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = []
        for features in (12, 80):
            sizes = (320, features), (320, 80), (320,)
            weight, hidden, bias = (torch.randn(size, generator=generator) / 9 for size in sizes)
            self.layers.append(LSTMWeights.of(weight, hidden, bias_ih=bias))

    def forward(self, steps: Tensor, state: Tensor) -> Tensor:
        for weights in self.layers:
            steps, *_ = lstm_layer(steps, weights, h0=state, c0=state.tanh(), batch_first=True)
        return steps


@pytest.mark.parametrize("num_cores", [1, 2])
def test_the_steps_of_an_lstm_are_done_again_in_order(num_cores: int) -> None:
    def inputs(seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        sizes = (3, 7, 12), (3, 80)
        steps, state = (torch.randn(size, generator=generator) for size in sizes)
        return steps, state

    check_done_again(Recurrent(), inputs, num_cores=num_cores)
