from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from corestream.ops import (
    ConvolutionShape,
    PackedConvolution,
    convolution_chain,
    has_kernels,
    pack_convolution,
)
from corestream.ops.convolution import encoded

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 3e-2}

needs_kernel = pytest.mark.skipif(
    not has_kernels(torch.float32), reason="this CPU has no kernel of ours for float32"
)


def images(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randn(*shape, generator=generator).to(dtype)
    return plain.contiguous(memory_format=torch.channels_last)


class Layer:
    """A convolution, and what torch makes of it."""

    def __init__(self, channels, out_channels, kernel=1, *, dtype=torch.float32, **options):
        self.groups = channels if options.get("each") else 1
        self.stride = options.get("stride", 1)
        self.pad = options.get("pad", kernel // 2)
        self.low, self.high = options.get("low"), options.get("high")
        inputs = channels // self.groups
        self.weight = images(out_channels, inputs, kernel, kernel, seed=kernel + channels)
        self.weight = (self.weight / (inputs * kernel * kernel) ** 0.5).to(dtype)
        self.bias = torch.randn(out_channels) if options.get("has_bias", True) else None

    def packed(self):
        shape = ConvolutionShape(
            tuple(self.weight.shape),
            stride=(self.stride, self.stride),
            padding=(self.pad, self.pad),
            groups=self.groups,
        )
        packed = pack_convolution(self.weight, self.groups)
        return PackedConvolution(
            packed=packed, shape=shape, bias=self.bias, low=self.low, high=self.high
        )

    def by_torch(self, x, residual=None):
        bias = None if self.bias is None else self.bias.to(x.dtype)
        weight = self.weight.to(x.dtype)
        out = functional.conv2d(x, weight, bias, self.stride, self.pad, groups=self.groups)
        out = out if residual is None else out + residual
        is_limited = self.low is not None or self.high is not None
        return out.clamp(self.low, self.high) if is_limited else out


def check(x, layers, residual=None):
    expected = x.double()
    for layer in layers:
        added = residual.double() if residual is not None and layer is layers[-1] else None
        expected = layer.by_torch(expected, added)
        if x.dtype == torch.bfloat16:
            expected = expected.bfloat16().double()
    actual = convolution_chain(x, [layer.packed() for layer in layers], residual=residual)
    assert actual.dtype == x.dtype
    assert actual.is_contiguous(memory_format=torch.channels_last)
    limit = LIMITS[x.dtype] * max(1.0, float(expected.abs().max()) if expected.numel() else 1.0)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=limit)


def on_device(one, device):
    return replace(one, packed=one.packed.to(device), bias=one.bias.to(device))


def pointwise(inputs, outputs, **options):
    return Layer(inputs, outputs, **options)


def depthwise(channels, kernel=3, **options):
    return Layer(channels, channels, kernel, each=True, **options)


@st.composite
def chains(draw):
    """Layers of which any may be computed by rows, or none; with the image's channels."""
    channels = first = draw(st.sampled_from([3, 8, 20, 33]))
    options = {"dtype": draw(st.sampled_from([torch.float32, torch.bfloat16]))}
    layers = []
    for _ in range(draw(st.integers(1, 4))):
        limits = draw(st.sampled_from([{}, {"low": 0.0}, {"low": -0.5, "high": 0.5}]))
        given_options = options | limits | {"has_bias": draw(st.booleans())}
        kind = draw(st.sampled_from(["pointwise", "depthwise", "dense"]))
        if kind == "depthwise":
            kernel, stride = draw(st.sampled_from([3, 5])), draw(st.sampled_from([1, 2]))
            layers.append(depthwise(channels, kernel, stride=stride, **given_options))
            continue
        outputs = draw(st.sampled_from([8, 24, 70, 130]))
        kernel, stride = (1, 1) if kind == "pointwise" else draw(st.sampled_from([(3, 2), (1, 2)]))
        layers.append(Layer(channels, outputs, kernel, stride=stride, **given_options))
        channels = outputs
    return first, layers


@given(
    chain=chains(),
    batch=st.integers(0, 3),
    size=st.tuples(st.integers(17, 60), st.integers(25, 90)),
    threads=st.integers(1, 4),
    has_residual=st.booleans(),
)
def test_it_is_one_convolution_after_another(chain, batch, size, threads, has_residual):
    channels, layers = chain
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x = images(batch, channels, *size, dtype=layers[0].weight.dtype)
        out = x.double()
        for layer in layers:
            out = layer.by_torch(out)
        residual = images(*out.shape, dtype=x.dtype, seed=7) if has_residual else None
        check(x, layers, residual)
    finally:
        torch.set_num_threads(before)


def allocated(x, layers):
    """Bytes that a call takes from torch's allocator, given back or not."""
    packed = [layer.packed() for layer in layers]
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        convolution_chain(x, packed)
    events = profile.profiler.kineto_results.events()
    return sum(max(event.nbytes(), 0) for event in events if event.name() == "[memory]")


BLOCK = [
    pointwise(16, 64, low=0.0, high=6.0),
    depthwise(64, stride=2, low=0.0, high=6.0),
    pointwise(64, 24),
]


@needs_kernel
def test_a_chain_of_more_than_one_group_of_rows():
    """Large, then small, then large again: three tensors are there as a whole."""
    layers = [
        *BLOCK[:2],
        pointwise(64, 64, low=0.0),
        depthwise(64, 5, stride=2, high=1.0),
        pointwise(64, 900),
        depthwise(900),
    ]
    check(images(2, 16, 120, 100), layers)


@needs_kernel
def test_what_a_large_image_becomes_in_between_is_in_memory_by_rows():
    image = images(2, 16, 80, 80)
    passed_on = 2 * 64 * 80 * 80 * 4
    output = 2 * 24 * 40 * 40 * 4
    assert allocated(image, BLOCK) < output + passed_on / 4
    alone = [layer.packed() for layer in BLOCK]
    by_calls = image
    for layer in alone:
        by_calls = convolution_chain(by_calls, [layer])
    torch.testing.assert_close(convolution_chain(image, alone), by_calls, rtol=1e-5, atol=1e-5)


@needs_kernel
@pytest.mark.parametrize(
    "layers",
    [
        [pointwise(16, 64), Layer(64, 64, 3)],  # a dense kernel reads several rows
        [pointwise(16, 64), pointwise(64, 64, stride=2)],  # and leaves rows out
        [pointwise(16, 64), depthwise(64, 3), Layer(64, 8, 1, pad=1)],
    ],
)
def test_others_read_whole_images(layers):
    check(images(2, 16, 80, 80), layers)
    assert allocated(images(2, 16, 80, 80), layers) > 2 * 64 * 80 * 80 * 4


def test_a_kernel_that_is_not_ours_is_torchs():
    check(images(1, 6, 40, 70), [pointwise(6, 32), Layer(32, 32, 9, each=True), pointwise(32, 6)])
    check(images(1, 6, 40, 70), [Layer(6, 64, 9), pointwise(64, 32)])


def test_more_channels_than_there_are_zeros_at_hand():
    check(images(1, 4100, 5, 5), [Layer(4100, 8, 3), depthwise(8)])
    check(images(1, 4100, 90, 90), [pointwise(4100, 16), depthwise(16)])
    check(images(1, 4100, 90, 90), [Layer(4100, 16, 1, pad=1), depthwise(16)])


def test_inputs_and_residuals_of_other_layouts():
    x = images(2, 20, 50, 60)
    residual = torch.randn(2, 24, 25, 30)
    layers = [pointwise(16, 64), depthwise(64, stride=2), pointwise(64, 24, low=0.0)]
    check(x[:, 2:18], layers, residual)
    check(torch.randn(2, 16, 50, 60), layers, images(2, 30, 25, 30)[:, 3:27])


def test_gradients_are_those_of_torch():
    x = images(1, 16, 20, 30).requires_grad_()
    residual = images(1, 24, 10, 15, seed=3).requires_grad_()
    packed = [layer.packed() for layer in BLOCK]
    convolution_chain(x, packed, residual=residual).square().sum().backward()
    twins = x.detach().clone().requires_grad_(), residual.detach().clone().requires_grad_()
    out = BLOCK[1].by_torch(BLOCK[0].by_torch(twins[0]))
    BLOCK[2].by_torch(out, twins[1]).square().sum().backward()
    torch.testing.assert_close(x.grad, twins[0].grad, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(residual.grad, twins[1].grad, rtol=1e-4, atol=1e-3)


def test_under_autocast_the_dense_weights_decide():
    x = images(1, 16, 20, 30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = convolution_chain(x.bfloat16(), [layer.packed() for layer in BLOCK])
        alone = convolution_chain(x.bfloat16(), [depthwise(16).packed()])
    assert (actual.dtype, alone.dtype) == (torch.float32, torch.bfloat16)
    expected = BLOCK[2].by_torch(BLOCK[1].by_torch(BLOCK[0].by_torch(x.double())))
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=0.1)


def test_shapes_are_known_without_data():
    x, packed = images(2, 16, 21, 30), [layer.packed() for layer in BLOCK]
    expected = convolution_chain(x, packed)
    unknown = [on_device(one, "meta") for one in packed]
    actual = convolution_chain(x.to("meta"), unknown)
    assert (actual.shape, actual.stride()) == (expected.shape, expected.stride())


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda x, chain: convolution_chain(x.double(), chain), "packed must be"),
        (lambda x, chain: convolution_chain(x, chain, residual=x), "residual must be"),
        (
            lambda x, chain: convolution_chain(x, [replace(chain[0], bias=torch.ones(3))]),
            "bias must be 64",
        ),
        (
            lambda x, chain: convolution_chain(
                x[:, :, :1, :1], [chain[0], depthwise(64, 5, pad=1).packed()]
            ),
            "as large as the kernel",
        ),
        (
            lambda x, chain: convolution_chain(
                x[:, :, :2, :4], [chain[0], depthwise(64, 3, stride=2, pad=0).packed()]
            ),
            "as large as the kernel",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, reason):
    with pytest.raises(RuntimeError, match=reason):
        call(images(1, 16, 12, 12), [layer.packed() for layer in BLOCK])


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_shapes_that_do_not_fit_are_refused_without_data(device):
    x = images(1, 16, 12, 12).to(device)
    chain = [on_device(layer.packed(), device) for layer in BLOCK]
    for wrong, layers, reason in (
        (x[0], chain, "4 dims; got 3"),
        (x[:, :8], chain, "16 channels; got 8"),
        (x, chain[:1] * 2, "16 channels; got 64"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            convolution_chain(wrong, layers)


def test_the_operator_keeps_its_promises_to_the_compiler():
    packed = [layer.packed() for layer in BLOCK]
    args = (
        images(2, 16, 9, 11),
        [one.packed for one in packed],
        [one.bias for one in packed],
        images(2, 24, 5, 6),
        *encoded(packed),
    )
    torch.library.opcheck(torch.ops.corestream.convolution_chain.default, args)


def test_nothing_is_no_chain():
    with pytest.raises(ValueError, match="must hold a convolution"):
        convolution_chain(images(1, 8, 4, 4), [])


@pytest.mark.parametrize("has_autocast", [True, False])
def test_the_operator_itself_checks_what_it_is_given(has_autocast):
    chain, x = torch.ops.corestream.convolution_chain, images(1, 8, 4, 4)
    with torch.autocast("cpu", enabled=has_autocast):
        with pytest.raises(RuntimeError, match="must have a weight"):
            chain(x, [x], [x], None, [0] * 12, [0.0, 0.0])
        with pytest.raises(RuntimeError, match="for each weight; got 0 weights"):
            chain(x, [], [], None, [], [])
