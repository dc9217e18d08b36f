from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from corestream.ops import (
    ConvolutionShape,
    JoinedPart,
    PackedConvolution,
    joined_convolutions,
    pack_convolution,
)

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def images(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randn(*shape, generator=generator).to(dtype)
    return plain.contiguous(memory_format=torch.channels_last)


def part(x, out_channels, *, kernel=1, groups=1, has_bias=True, seed=0, **limits):
    """A part that keeps the image's size, and what it should be."""
    channels = x.shape[1]
    weight = images(out_channels, channels // groups, kernel, kernel, dtype=x.dtype, seed=seed)
    pad = kernel // 2, kernel // 2
    shape = ConvolutionShape(tuple(weight.shape), padding=pad, groups=groups)
    bias = torch.randn(out_channels) if has_bias else None
    expected = functional.conv2d(
        x.double(),
        weight.double(),
        None if bias is None else bias.double(),
        padding=pad,
        groups=groups,
    )
    if limits:
        expected = expected.clamp(limits.get("low"), limits.get("high"))
    packed = pack_convolution(weight, groups)
    one = PackedConvolution(packed=packed, shape=shape, bias=bias, **limits)
    return JoinedPart(input=x, convolution=one), expected


def on_device(one, device):
    layer = one.convolution
    if layer is not None:
        bias = None if layer.bias is None else layer.bias.to(device)
        layer = replace(layer, packed=layer.packed.to(device), bias=bias)
    return JoinedPart(input=one.input.to(device), convolution=layer)


def check(parts, *, dtype=torch.float32):
    given_parts, expected = zip(*parts, strict=True)
    wanted = torch.cat([each.double() for each in expected], 1)
    actual = joined_convolutions(given_parts)
    assert actual.dtype == dtype
    assert actual.is_contiguous(memory_format=torch.channels_last)
    limit = LIMITS[dtype] * max(1.0, float(wanted.abs().max()) if wanted.numel() else 1.0)
    torch.testing.assert_close(actual.double(), wanted, rtol=0, atol=limit)


@given(
    batch=st.integers(0, 2),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.integers(2, 30),
    widths=st.lists(st.integers(0, 70), min_size=1, max_size=4),
    kernels=st.lists(st.sampled_from([1, 3, 5]), min_size=4, max_size=4),
    has_bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_it_is_a_concatenation_of_any_parts(
    batch, size, channels, widths, kernels, has_bias, dtype
):
    """A width of 0 stands for the image itself."""
    x = images(batch, channels, *size, dtype=dtype)
    parts = [
        part(x, width, kernel=kernel, has_bias=has_bias, seed=width)
        if width
        else (JoinedPart(input=x), x)
        for width, kernel in zip(widths, kernels, strict=False)
    ]
    check(parts, dtype=dtype)


def test_limits_belong_to_a_part():
    x = images(2, 8, 5, 5)
    check([part(x, 6, low=0.0), part(x, 7), part(x, 8, low=-0.1, high=0.1)])


def test_depthwise_parts_and_inputs_of_other_layouts():
    x = images(2, 20, 6, 6)
    plain = torch.randn(2, 3, 6, 6)
    check([part(x, 20, kernel=3, groups=20), part(x[:, 2:9], 5), (JoinedPart(input=plain), plain)])


def test_a_kernel_that_is_not_ours_is_torchs():
    x = images(1, 6, 12, 12)
    check([part(x, 4, kernel=9), part(x, 4)])


def test_gradients_are_those_of_torch():
    x, weight = images(1, 4, 5, 5).requires_grad_(), images(3, 4, 1, 1, seed=1)
    shape = ConvolutionShape((3, 4, 1, 1))
    one = PackedConvolution(packed=pack_convolution(weight), shape=shape, low=0.0)
    convolved = JoinedPart(input=x, convolution=one)
    joined_convolutions([convolved, JoinedPart(input=x)]).square().sum().backward()
    twin = x.detach().clone().requires_grad_()
    expected = torch.cat([functional.conv2d(twin, weight).clamp(min=0.0), twin], 1)
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad)


def test_under_autocast_the_weights_decide():
    x = images(1, 8, 4, 4)
    one, expected = part(x, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = joined_convolutions([replace(one, input=x.bfloat16())])
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=0.1)


def test_under_autocast_dtypes_are_promoted_as_by_cat():
    x = images(1, 8, 4, 4)
    one, expected = part(x, 5)
    exact = images(1, 3, 4, 4, seed=3)
    in_bf16, _ = part(x.bfloat16(), 4, seed=2)
    parts = [one, JoinedPart(input=exact), in_bf16, JoinedPart(input=exact.bfloat16())]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = joined_convolutions(parts)
    assert actual.dtype == torch.float32
    assert torch.equal(actual[:, 5:8], exact)
    torch.testing.assert_close(actual[:, :5].double(), expected, rtol=0, atol=1e-4)


def test_under_autocast_gradients_reach_inputs_of_several_dtypes():
    x = images(1, 8, 4, 4).requires_grad_()
    one, _ = part(x.detach(), 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        joined = joined_convolutions(
            [JoinedPart(input=x.detach().bfloat16()), replace(one, input=x)]
        )
    joined.sum().backward()
    assert float(x.grad.abs().max()) > 0


def test_under_autocast_shapes_of_several_dtypes_are_known_without_data():
    shape = ConvolutionShape((5, 8, 1, 1))
    size = pack_convolution(torch.ones(5, 8, 1, 1)).shape
    with FakeTensorMode(), torch.autocast("cpu", dtype=torch.bfloat16):
        x = torch.empty(1, 8, 4, 4)
        one = PackedConvolution(packed=torch.empty(size), shape=shape)
        convolved = JoinedPart(input=x, convolution=one)
        joined = joined_convolutions([convolved, JoinedPart(input=x.bfloat16())])
    assert (joined.shape, joined.dtype) == ((1, 13, 4, 4), torch.float32)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda: JoinedPart(input=images(1, 8, 4, 5)), r"got \[1, 5, 4, 4\] and \[1, 8, 4, 5\]"),
        (lambda: JoinedPart(input=images(2, 8, 4, 4)), "one batch, height and width"),
        (lambda: JoinedPart(input=images(1, 8, 4, 4).double()), "one dtype"),
        (lambda: JoinedPart(input=torch.zeros(8, 4)), "4 dims"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_does_not_fit_is_refused(other, reason, device):
    parts = [part(images(1, 8, 4, 4), 5)[0], other()]
    with pytest.raises(RuntimeError, match=reason):
        joined_convolutions([on_device(each, device) for each in parts])


def test_parts_need_not_read_the_same_image():
    parts = [part(images(1, 8, 4, 4), 5), part(images(1, 7, 4, 4, seed=1), 5)]
    check(parts)


@pytest.mark.parametrize("has_autocast", [True, False])
def test_the_operator_itself_checks_what_it_is_given(has_autocast):
    joined, x = torch.ops.corestream.joined_convolutions, images(1, 8, 4, 4)
    with torch.autocast("cpu", enabled=has_autocast):
        with pytest.raises(RuntimeError, match="for each input; got 0 inputs and 1 weights"):
            joined([], [x], [], [], [])
        with pytest.raises(RuntimeError, match="what has no weight must have no bias"):
            joined([x], [x], [x], [4, *[0] * 11], [0.0, 0.0])
        with pytest.raises(RuntimeError, match="for each weight; got 1 weights, 1, 11 and 2"):
            joined([x], [x], [x], [0] * 11, [0.0, 0.0])


def test_nothing_is_no_concatenation():
    with pytest.raises(ValueError, match="parts must hold a part"):
        joined_convolutions([])


def test_shapes_are_known_without_data():
    x = images(2, 8, 6, 6)
    one, _ = part(x, 5, kernel=3)
    expected = joined_convolutions([one, JoinedPart(input=x)])
    actual = joined_convolutions([on_device(each, "meta") for each in (one, JoinedPart(input=x))])
    assert (actual.shape, actual.stride()) == (expected.shape, expected.stride())
