"""Convolutions of any geometry: packed ones against torch's own kernels."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from corestream.nn import packed_class, why_not_packable
from tests.unit.nn.native import assert_close, assert_same_bits, native

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@st.composite
def layers_and_inputs(draw: st.DrawFn, *, is_transposed: bool) -> tuple[nn.Module, torch.Tensor]:
    dims = draw(st.integers(2, 3) if is_transposed else st.integers(1, 3))

    def per_dim(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    groups = draw(st.sampled_from([1, 1, 2, 3, 8]))
    channels = [groups * draw(st.sampled_from([1, 3, 4, 8])) for _ in range(2)]
    kernel, stride, dilation = per_dim(1, 4), per_dim(1, 3), per_dim(1, 2)
    options = {"stride": stride, "dilation": dilation, "bias": draw(st.booleans())}
    if is_transposed:
        padding = tuple(
            draw(st.integers(0, d * (k - 1))) for d, k in zip(dilation, kernel, strict=True)
        )
        output_padding = tuple(draw(st.integers(0, s - 1)) for s in stride)
        options |= {"padding": padding, "output_padding": output_padding}
        kind = TRANSPOSED[dims]
    else:
        options["padding"] = draw(st.sampled_from(["same", "valid", per_dim(0, 3)]))
        if options["padding"] == "same":
            options["stride"] = 1
        kind = CONVS[dims]
    layer = kind(*channels, kernel, groups=groups, **options)
    sizes = [
        d * (k - 1) + 1 + draw(st.integers(0, 5)) for d, k in zip(dilation, kernel, strict=True)
    ]
    return layer, torch.randn(draw(st.integers(0, 3)), channels[0], *sizes)


def check(layer: nn.Module, x: torch.Tensor) -> None:
    if why_not_packable(layer) is not None:
        return
    packed = packed_class(type(layer)).from_module(layer)
    for inputs in (x, torch.cat([x, x]), x):
        with torch.no_grad():
            assert_close(packed(inputs), native(layer, inputs), tolerance=2e-5)
    assert_same_bits(packed.state_dict()["weight"], layer.weight)


@settings(deadline=None, max_examples=40)
@given(layers_and_inputs(is_transposed=False))
def test_any_convolution(case):
    check(*case)


@settings(deadline=None, max_examples=40)
@given(layers_and_inputs(is_transposed=True))
def test_any_transposed_convolution(case):
    check(*case)
