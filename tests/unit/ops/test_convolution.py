from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corestream.ops import (
    ConvolutionShape,
    convolution,
    has_convolution_kernel,
    pack_convolution,
)

DTYPES = [torch.float32, torch.bfloat16]
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


def images(batch, channels, height, width, *, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randn(batch, channels, height, width, generator=generator).to(dtype)
    return plain.contiguous(memory_format=torch.channels_last)


def exact(x, weight, bias, shape):
    options = shape.stride, shape.padding, shape.dilation, shape.groups
    bias = None if bias is None else bias.double()
    return torch.nn.functional.conv2d(x.double(), weight.double(), bias, *options)


def check(x, weight, *, bias=None, shape, **options):
    expected = exact(x, weight, bias, shape)
    if "residual" in options:
        expected = expected + options["residual"].double()
    expected = expected.clamp(options.get("low"), options.get("high")) if options else expected
    packed = pack_convolution(weight, shape.groups)
    actual = convolution(x, packed, shape=shape, bias=bias, **options)
    assert actual.dtype == x.dtype
    assert actual.shape == expected.shape
    assert actual.is_contiguous(memory_format=torch.channels_last)
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(
        actual.double(), expected, rtol=0, atol=LIMITS[x.dtype] * scale, equal_nan=True
    )


@given(
    batch=st.integers(0, 3),
    channels=st.integers(1, 40),
    out_channels=st.integers(1, 150),
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dtype=st.sampled_from(DTYPES),
    has_bias=st.booleans(),
)
def test_any_dense_shape(
    batch, channels, out_channels, size, kernel, stride, padding, dtype, has_bias
):
    weight = images(out_channels, channels, *kernel, dtype=dtype, seed=1)
    shape = ConvolutionShape(tuple(weight.shape), stride=stride, padding=padding)
    bias = torch.randn(out_channels) if has_bias else None
    check(images(batch, channels, *size, dtype=dtype), weight, bias=bias, shape=shape)


@given(
    batch=st.integers(1, 3),
    channels=st.integers(2, 70),
    size=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    kernel=st.sampled_from([1, 2, 3, 5, 7]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 5),
    dtype=st.sampled_from(DTYPES),
)
def test_any_depthwise_shape(batch, channels, size, kernel, stride, padding, dtype):
    padding = max(padding, kernel // 2)
    weight = images(channels, 1, kernel, kernel, dtype=dtype, seed=1)
    shape = ConvolutionShape(
        tuple(weight.shape), stride=(stride, stride), padding=(padding, padding), groups=channels
    )
    bias = torch.randn(channels)
    check(images(batch, channels, *size, dtype=dtype), weight, bias=bias, shape=shape)


@pytest.mark.parametrize("dilation", [(2, 2), (1, 3)])
@pytest.mark.parametrize("channels", [3, 16])
def test_dilation(channels, dilation):
    weight = images(20, channels, 3, 3, seed=1)
    shape = ConvolutionShape(tuple(weight.shape), padding=(2, 3), dilation=dilation)
    check(images(2, channels, 11, 12), weight, shape=shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 24])
def test_a_residual_and_limits(groups, dtype):
    weight = images(24, 24 // groups, 3, 3, dtype=dtype, seed=1)
    shape = ConvolutionShape(tuple(weight.shape), padding=(1, 1), groups=groups)
    x, residual = images(2, 24, 8, 9, dtype=dtype), images(2, 24, 8, 9, dtype=dtype, seed=2)
    check(x, weight, shape=shape, residual=residual, low=0.0, high=6.0)
    check(x, weight, shape=shape, low=0.0)
    plain = residual.contiguous()
    check(x, weight, shape=shape, residual=plain, low=-0.5)


@pytest.mark.parametrize("channels", [3, 16])
def test_slices_of_channels_and_other_layouts_are_read(channels):
    weight = images(20, channels, 3, 3, seed=1)
    shape = ConvolutionShape(tuple(weight.shape), padding=(1, 1))
    whole = images(2, 2 * channels, 8, 9)
    check(whole[:, channels:], weight, shape=shape)
    check(whole[:, :channels].contiguous(), weight, shape=shape)
    check(whole[:, :channels, 1:, 2:], weight, shape=shape)
    check(whole[:1, :channels].expand(3, -1, -1, -1), weight, shape=shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [3, 5, 17])
def test_what_lies_beside_the_image_is_not_multiplied(channels, dtype):
    """Not even with zero: beside the last channel of a pixel lies one that may be no number."""
    weight = images(16, channels, 3, 3, dtype=dtype, seed=1)
    shape = ConvolutionShape(tuple(weight.shape), padding=(1, 1))
    x = images(1, channels, 9, 9, dtype=dtype)
    x[:, :, 4, 4] = torch.nan
    actual = convolution(x, pack_convolution(weight), shape=shape).isnan()
    expected = exact(x, weight, None, shape).isnan()
    assert torch.equal(actual, expected)
    assert int(expected.sum()) == 16 * 9


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize(("channels", "groups"), [(64, 1), (3, 1), (96, 96)])
def test_a_team_divides_pixels_or_channels(channels, groups, num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        weight = images(96, channels // groups, 3, 3, seed=1)
        shape = ConvolutionShape(tuple(weight.shape), stride=(2, 2), padding=(1, 1), groups=groups)
        for size in (56, 7, 1):
            check(images(1, channels, size, size), weight, shape=shape)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("num_threads", [1, 2, 3, 5, 16])
@pytest.mark.parametrize(("channels", "size"), [(960, 7), (100, 14), (24, 60)])
def test_a_team_divides_rows_or_channels_of_depthwise_layers(channels, size, num_threads):
    """Seven rows are fewer than members want, and the last of 100 channels are no whole vector."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        weight = images(channels, 1, 3, 3, seed=1)
        shape = ConvolutionShape(tuple(weight.shape), padding=(1, 1), groups=channels)
        check(images(2, channels, size, size), weight, shape=shape)
    finally:
        torch.set_num_threads(before)


def test_an_image_smaller_than_the_kernel_is_refused():
    shape = ConvolutionShape((8, 8, 3, 3))
    with pytest.raises(RuntimeError):
        convolution(images(1, 8, 2, 2), pack_convolution(images(8, 8, 3, 3)), shape=shape)


@pytest.mark.parametrize(
    ("x", "options", "reason"),
    [
        (images(1, 9, 4, 4), {}, "must have 8 channels; got 9"),
        (torch.zeros(8, 4, 4), {}, "must have 4 dims; got 3"),
        (images(1, 8, 4, 4), {"residual": images(1, 8, 4, 5)}, "residual must be as the output"),
        (images(1, 8, 4, 4), {"bias": torch.zeros(7)}, "bias must be 8 adjacent numbers"),
        (images(1, 8, 4, 4, dtype=torch.bfloat16), {}, "packed must be what"),
        (images(1, 8, 4, 4, dtype=torch.float64), {}, "packed must be what"),
        (images(1, 8, 4, 4), {"residual": torch.zeros(1, 1, 1, 1)}, "residual must be as the"),
    ],
)
def test_what_does_not_fit_is_refused(x, options, reason):
    shape = ConvolutionShape((8, 8, 3, 3), padding=(1, 1))
    with pytest.raises(RuntimeError, match=reason):
        convolution(x, pack_convolution(images(8, 8, 3, 3)), shape=shape, **options)


@pytest.mark.parametrize(
    "geometry",
    [{"stride": (0, 1)}, {"padding": (-1, 0)}, {"dilation": (-1, 1)}, {"groups": 0}],
)
def test_a_shape_that_no_layer_has_is_refused(geometry):
    shape = ConvolutionShape((8, 8, 3, 3), **geometry)
    with pytest.raises(RuntimeError, match="sizes must be those of a Conv2d"):
        convolution(images(1, 8, 4, 4), pack_convolution(images(8, 8, 3, 3)), shape=shape)
    with pytest.raises(RuntimeError, match="sizes must be those of a Conv2d"):
        has_convolution_kernel(torch.float32, shape)


def test_a_weight_of_another_shape_is_not_read():
    shape = ConvolutionShape((64, 32, 3, 3), padding=(1, 1), groups=2)
    with pytest.raises(RuntimeError, match="packed must be what"):
        convolution(images(1, 64, 4, 4), pack_convolution(images(1, 1, 1, 1)), shape=shape)


@pytest.mark.parametrize("groups", [1, 8])
def test_gradients_are_torchs(groups):
    weight = images(8, 8 // groups, 3, 3, seed=1)
    shape = ConvolutionShape(tuple(weight.shape), padding=(1, 1), groups=groups)
    x = images(1, 8, 5, 5).requires_grad_()
    convolution(x, pack_convolution(weight, groups), shape=shape, low=0.0).sum().backward()
    actual, x.grad = x.grad, None
    torch.nn.functional.conv2d(x, weight, padding=1, groups=groups).relu().sum().backward()
    torch.testing.assert_close(actual, x.grad)


@pytest.mark.parametrize("groups", [1, 8])
def test_under_autocast_the_weight_decides(groups):
    weight = images(8, 8 // groups, 3, 3, seed=1)
    shape = ConvolutionShape(tuple(weight.shape), padding=(1, 1), groups=groups)
    x = images(1, 8, 5, 5)
    packed = pack_convolution(weight, groups)
    expected = convolution(x, packed, shape=shape)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = convolution(x.bfloat16(), packed, shape=shape, residual=torch.zeros_like(expected))
    torch.testing.assert_close(actual.float(), expected, rtol=0.02, atol=0.1)


def test_the_operator_keeps_its_promises_to_the_compiler():
    sizes = [8, 8, 3, 3], [2, 1], [1, 0], [1, 2], 1
    args = images(2, 8, 7, 9), pack_convolution(images(8, 8, 3, 3)), None, None, *sizes, 0.0, None
    torch.library.opcheck(torch.ops.corestream.convolution.default, args)
