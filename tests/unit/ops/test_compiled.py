"""Models that call our operators by themselves, in what AOTInductor compiles."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

import corestream
from corestream.ops import (
    ConvolutionShape,
    JoinedPart,
    PackedConvolution,
    adaptive_avg_pool,
    avg_pool,
    convolution_chain,
    joined_convolutions,
    max_pool,
    multiply_transposed,
    pack_convolution,
)


class Model(nn.Module):
    """Convolutions joined with their image, a chain of them, pools, and products of the rest."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.randn(6, 4, 3, 3))
        self.register_buffer("packed", pack_convolution(self.weight))
        self.register_buffer("bias", torch.randn(6))
        self.register_buffer("each", torch.randn(10, 1, 3, 3))
        self.register_buffer("packed_each", pack_convolution(self.each, groups=10))
        self.register_buffer("wide", torch.randn(12, 10, 1, 1))
        self.register_buffer("packed_wide", pack_convolution(self.wide))
        self.eval()

    def forward(self, x):
        shape = ConvolutionShape((6, 4, 3, 3), padding=(1, 1))
        one = PackedConvolution(packed=self.packed, shape=shape, bias=self.bias, low=0.0)
        out = joined_convolutions([JoinedPart(input=x, convolution=one), JoinedPart(input=x)])
        out = convolution_chain(
            out,
            [
                PackedConvolution(
                    packed=self.packed_each,
                    shape=ConvolutionShape((10, 1, 3, 3), padding=(1, 1), groups=10),
                    high=1.0,
                ),
                PackedConvolution(packed=self.packed_wide, shape=ConvolutionShape((12, 10, 1, 1))),
            ],
        )
        out = max_pool(avg_pool(out, (2, 2), ceil_mode=True), (3, 3), stride=(1, 1))
        rows = adaptive_avg_pool(out, (3, 1)).flatten(2)
        return multiply_transposed(rows, rows)

    def by_torch(self, x):
        out = functional.conv2d(x, self.weight, self.bias, padding=1).relu()
        out = functional.conv2d(torch.cat([out, x], 1), self.each, padding=1, groups=10)
        out = functional.conv2d(out.clamp(max=1.0), self.wide)
        out = functional.avg_pool2d(out, 2, ceil_mode=True)
        rows = functional.adaptive_avg_pool2d(functional.max_pool2d(out, 3, 1), (3, 1)).flatten(2)
        return rows @ rows.mT


def test_a_compiled_model_is_right_for_any_batch(tmp_path):
    model = Model()
    lowered = corestream.lower(
        model,
        torch.randn(3, 4, 11, 9),
        backend="aotinductor",
        num_streams=1,
        cache=tmp_path,
        progress=False,
    )
    for batch in (1, 3, 5):
        x = torch.randn(batch, 4, 11, 9)
        torch.testing.assert_close(lowered(x), model.by_torch(x), rtol=1e-4, atol=1e-4)
