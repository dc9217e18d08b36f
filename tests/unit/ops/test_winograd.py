"""Convolutions by Winograd's algorithm are those of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corestream.ops import (
    ConvolutionShape,
    JoinedPart,
    PackedConvolution,
    convolution,
    convolution_chain,
    has_convolution_kernel,
    has_winograd_kernel,
    joined_convolutions,
    pack_convolution,
    pack_winograd,
)


def images(batch, channels, height, width, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randn(batch, channels, height, width, generator=generator)
    return plain.contiguous(memory_format=torch.channels_last)


def weight_of(out_channels, channels, kernel, *, seed=1):
    """Such that outputs are about one."""
    weight = images(out_channels, channels, kernel, kernel, seed=seed)
    return weight / (channels * kernel * kernel) ** 0.5


# Tiles and sizes of the kernel.
FORMS = [(6, 3), (6, 5), (4, 3)]


def check(x, weight, *, tile, padding, bias=None, **options):
    shape = ConvolutionShape(tuple(weight.shape), padding=padding)
    exact_bias = None if bias is None else bias.double()
    expected = torch.nn.functional.conv2d(x.double(), weight.double(), exact_bias, padding=padding)
    if "residual" in options:
        expected = expected + options["residual"].double()
    expected = expected.clamp(options.get("low"), options.get("high")) if options else expected
    actual = convolution(x, pack_winograd(weight, tile=tile), shape=shape, bias=bias, **options)
    assert actual.dtype == x.dtype
    assert actual.shape == expected.shape
    assert actual.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=2e-5)


@given(
    batch=st.integers(0, 3),
    channels=st.integers(1, 40),
    out_channels=st.integers(1, 150),
    size=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    form=st.sampled_from(FORMS),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    has_bias=st.booleans(),
)
def test_any_shape(batch, channels, out_channels, size, form, padding, has_bias):
    tile, kernel = form
    padding = [
        max(pad, (kernel - length + 1) // 2) for pad, length in zip(padding, size, strict=True)
    ]
    weight = weight_of(out_channels, channels, kernel)
    bias = torch.randn(out_channels) if has_bias else None
    check(images(batch, channels, *size), weight, tile=tile, padding=padding, bias=bias)


@pytest.mark.parametrize(("tile", "kernel"), FORMS)
def test_a_residual_limits_slices_and_other_layouts(tile, kernel):
    weight, options = weight_of(24, 16, kernel), {"tile": tile, "padding": (kernel // 2,) * 2}
    whole, residual = images(2, 32, 8, 9), images(2, 24, 8, 9, seed=2)
    x = whole[:, 16:]
    check(x, weight, residual=residual, low=0.0, high=1.0, **options)
    check(x, weight, residual=residual.contiguous(), low=-0.5, **options)
    check(x, weight, low=0.0, **options)
    check(x.contiguous(), weight, **options)
    check(x[:1].expand(3, -1, -1, -1), weight, **options)
    check(x[:, :, 1:, 2:], weight, **options)


@pytest.mark.parametrize("tile", [4, 6])
@pytest.mark.parametrize("num_threads", [1, 2, 3, 5, 6, 16])
@pytest.mark.parametrize(("channels", "size"), [(256, 7), (48, 30), (100, 13)])
def test_a_team_divides_tiles_and_channels(channels, size, num_threads, tile):
    """Four tiles are fewer than members want, and the last of 100 channels are no whole vector."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        weight = weight_of(channels, channels, 3)
        check(images(1, channels, size, size), weight, tile=tile, padding=(1, 1))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("tile", [4, 6])
def test_more_channels_than_there_are_zeros_at_hand(tile):
    """Without padding: tiles reach beyond the image all the same."""
    check(images(1, 4100, 4, 5), weight_of(3, 4100, 3), tile=tile, padding=(0, 0))


def tile_error(points, *, channels):
    """Root mean square error of the algorithm with such points in float32; outputs are about 1."""
    rows = torch.tensor(points, dtype=torch.float64)[:, None]

    def with_infinity(values):
        return torch.cat([values, torch.eye(values.shape[1], dtype=torch.float64)[-1:]])

    inputs = torch.zeros(6, 6, dtype=torch.float64)
    for row, point in enumerate((*points, None)):
        others = np.poly([other for other in points if other != point])[::-1]
        inputs[row, : len(others)] = torch.from_numpy(others.copy())
    distances = (rows - rows.T + torch.eye(len(points))).prod(1, keepdim=True)
    taps = with_infinity(rows ** torch.arange(3) / distances)
    outputs = with_infinity(rows ** torch.arange(4)).T.float()
    x, weight = images(64, channels, 6, 6), weight_of(16, channels, 3)
    values = inputs.float() @ x @ inputs.T.float()
    form = (taps @ weight.double() @ taps.T).float()
    found = outputs @ torch.einsum("ncij,ocij->noij", values, form) @ outputs.T
    expected = torch.nn.functional.conv2d(x.double(), weight.double())
    return float((found - expected).square().mean().sqrt())


@pytest.mark.parametrize("channels", [64, 512])
def test_the_points_are_better_than_the_usual(channels):
    ours = tile_error([0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)], channels=channels)
    usual = tile_error([0.0, 1.0, -1.0, 2.0, -2.0], channels=channels)
    assert usual < 1e-5
    assert ours < 0.6 * usual


@pytest.mark.parametrize("tile", [4, 6])
def test_errors_are_those_of_float32(tile):
    """Of 512 channels the direct kernel's are as large: it adds one after another."""
    x, weight = images(1, 512, 14, 14), weight_of(64, 512, 3)
    shape = ConvolutionShape(tuple(weight.shape), padding=(1, 1))
    expected = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1)

    def error(packed):
        return float((convolution(x, packed, shape=shape) - expected).square().mean().sqrt())

    assert error(pack_winograd(weight, tile=tile)) < 3 * error(pack_convolution(weight)) + 1e-7


def test_what_is_no_number_stays_in_its_tile():
    x, weight = images(1, 8, 16, 16), weight_of(16, 8, 3)
    x[:, :, 5, 5] = torch.nan
    shape = ConvolutionShape(tuple(weight.shape), padding=(1, 1))
    actual = convolution(x, pack_winograd(weight), shape=shape).isnan()
    expected = torch.nn.functional.conv2d(x, weight, padding=1).isnan()
    assert bool(actual[expected].all())
    assert not bool(actual[:, :, 8:].any())
    assert not bool(actual[:, :, :, 8:].any())


def test_chains_and_joins_take_such_weights():
    x, weight, last = images(2, 16, 30, 30), weight_of(24, 16, 3), weight_of(8, 24, 1, seed=2)
    first = PackedConvolution(
        packed=pack_winograd(weight),
        shape=ConvolutionShape(tuple(weight.shape), padding=(1, 1)),
        low=0.0,
    )
    second = PackedConvolution(
        packed=pack_convolution(last), shape=ConvolutionShape(tuple(last.shape))
    )
    middle = torch.nn.functional.conv2d(x, weight, padding=1).relu()
    expected = torch.nn.functional.conv2d(middle, last)
    torch.testing.assert_close(
        convolution_chain(x, [first, second]), expected, rtol=1e-4, atol=1e-5
    )
    joined = joined_convolutions(
        [JoinedPart(input=x), JoinedPart(input=x, convolution=first), JoinedPart(input=x)]
    )
    torch.testing.assert_close(joined, torch.cat([x, middle, x], 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("tile", "kernel"), FORMS)
def test_gradients_are_torchs(tile, kernel):
    """They come from the weight, which is found again in what was made of it."""
    weight, padding = weight_of(20, 9, kernel), kernel // 2
    shape = ConvolutionShape(tuple(weight.shape), padding=(padding, padding))
    x = images(1, 9, 8, 8).requires_grad_()
    convolution(x, pack_winograd(weight, tile=tile), shape=shape, low=0.0).sum().backward()
    actual, x.grad = x.grad, None
    torch.nn.functional.conv2d(x, weight, padding=padding).relu().sum().backward()
    torch.testing.assert_close(actual, x.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "geometry",
    [
        {"weight_size": (8, 8, 1, 1)},
        {"weight_size": (8, 8, 3, 5)},
        {"weight_size": (8, 8, 7, 7)},
        {"weight_size": (8, 8, 3, 3), "stride": (1, 2)},
        {"weight_size": (8, 8, 3, 3), "dilation": (2, 2)},
        {"weight_size": (8, 1, 3, 3), "groups": 8},
    ],
)
def test_other_convolutions_have_no_such_kernel(geometry):
    assert not has_winograd_kernel(torch.float32, ConvolutionShape(**geometry))


def test_kernels_are_those_of_float32():
    shape = ConvolutionShape((8, 8, 3, 3))
    has_kernel = has_convolution_kernel(torch.float32, shape)
    assert has_winograd_kernel(torch.float32, shape) == has_kernel
    assert not has_winograd_kernel(torch.bfloat16, shape)


@pytest.mark.parametrize(
    ("x", "geometry", "reason"),
    [
        (images(1, 9, 4, 4), {}, "must have 8 channels; got 9"),
        (images(1, 8, 8, 8), {"stride": (2, 2)}, "must be 1 for a weight in Winograd's form"),
        (images(1, 8, 8, 8), {"dilation": (1, 2)}, "must be 1 for a weight in Winograd's form"),
        (images(1, 64, 8, 8), {"groups": 8}, "packed must be what"),
        (images(1, 8, 2, 2), {}, "must be as large as the kernel"),
        (images(1, 8, 8, 8).bfloat16(), {}, "packed must be what"),
    ],
)
def test_what_does_not_fit_is_refused(x, geometry, reason):
    shape = ConvolutionShape((8, 8, 3, 3), **geometry)
    with pytest.raises(RuntimeError, match=reason):
        convolution(x, pack_winograd(images(8, 8, 3, 3)), shape=shape)


def test_a_form_of_another_weight_is_not_read():
    packed = pack_winograd(images(8, 8, 5, 5))
    with pytest.raises(RuntimeError, match="packed must be what"):
        convolution(images(1, 9, 8, 8), packed, shape=ConvolutionShape((8, 9, 3, 3)))
    with pytest.raises(RuntimeError, match="packed must be what"):
        convolution(images(1, 8, 8, 8), packed[:5], shape=ConvolutionShape((8, 8, 5, 5)))


@pytest.mark.parametrize(
    "weight",
    [
        torch.ones(8, 8, 3),
        torch.ones(8, 8, 4, 4),
        torch.ones(8, 8, 3, 5),
        torch.ones(0, 8, 3, 3),
        torch.ones(8, 8, 3, 3, dtype=torch.bfloat16),
    ],
)
def test_weights_without_the_form_are_refused(weight):
    with pytest.raises(RuntimeError, match=r"use pack_convolution|leave such a layer to torch"):
        pack_winograd(weight)


@pytest.mark.parametrize(("tile", "kernel"), [(4, 5), (5, 3), (0, 3)])
def test_other_tiles_are_refused(tile, kernel):
    with pytest.raises(RuntimeError, match="tile must be 6, or 4 for 3 x 3; got"):
        pack_winograd(images(8, 8, kernel, kernel), tile=tile)


def test_the_operator_keeps_its_promises_to_the_compiler():
    sizes = [8, 8, 3, 3], [1, 1], [1, 0], [1, 1], 1
    args = images(2, 8, 7, 9), pack_winograd(images(8, 8, 3, 3)), None, None, *sizes, 0.0, None
    torch.library.opcheck(torch.ops.corestream.convolution.default, args)
