"""Packed operators against torch's own kernels, not against oneDNN."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from corestream.nn import (
    PackedConv1d,
    PackedConv2d,
    PackedConv3d,
    PackedConvTranspose2d,
    PackedConvTranspose3d,
    PackedLinear,
    packed_class,
)
from tests.unit.nn.native import assert_close, assert_same_bits, folded_pair, native, trained_norm

LAYERS = {
    "conv1d": (nn.Conv1d(4, 16, 3, padding=1), (2, 4, 11)),
    "conv1d grouped": (nn.Conv1d(16, 32, 5, stride=2, dilation=2, groups=4), (3, 16, 23)),
    "conv2d": (nn.Conv2d(3, 16, 3, padding=1), (2, 3, 9, 10)),
    "conv2d no bias": (nn.Conv2d(16, 16, (3, 1), stride=(2, 1), bias=False), (1, 16, 9, 10)),
    # 16 channels a group: 8 would be padded to AVX-512's vectors, twice the bytes, and stay plain.
    "conv2d grouped": (nn.Conv2d(64, 64, 3, groups=4), (2, 64, 7, 8)),
    "conv2d odd groups": (nn.Conv2d(9, 6, 2, groups=3), (2, 9, 7, 8)),
    "depthwise": (nn.Conv2d(24, 24, 3, padding=1, groups=24), (2, 24, 9, 9)),
    "same, kernels differ": (nn.Conv2d(3, 8, (3, 5), padding="same"), (1, 3, 9, 10)),
    "same, dilated": (nn.Conv2d(3, 8, (2, 5), padding="same", dilation=(2, 1)), (1, 3, 9, 10)),
    "valid": (nn.Conv2d(3, 8, 3, padding="valid"), (1, 3, 9, 10)),
    "conv3d": (nn.Conv3d(4, 8, (1, 3, 2), padding=(0, 1, 1)), (1, 4, 3, 5, 6)),
    "conv3d grouped": (nn.Conv3d(8, 16, 2, groups=2, stride=2), (2, 8, 5, 6, 7)),
    "transposed 2d": (nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1), (2, 16, 5, 6)),
    "transposed 2d, padded": (
        nn.ConvTranspose2d(8, 12, 3, stride=3, output_padding=2, bias=False),
        (2, 8, 5, 6),
    ),
    "transposed 2d grouped": (
        nn.ConvTranspose2d(24, 48, (3, 2), stride=2, groups=2, output_padding=1),
        (2, 24, 5, 6),
    ),
    "transposed depthwise": (nn.ConvTranspose2d(16, 16, 3, groups=16, dilation=2), (1, 16, 6, 6)),
    "transposed 3d": (nn.ConvTranspose3d(8, 4, 2, stride=2), (1, 8, 3, 4, 2)),
    "transposed 3d grouped": (nn.ConvTranspose3d(64, 64, 2, stride=2, groups=2), (2, 64, 3, 4, 2)),
    "linear": (nn.Linear(33, 70), (5, 33)),
    "linear no bias": (nn.Linear(64, 128, bias=False), (2, 3, 64)),
    "linear, one row": (nn.Linear(64, 32), (64,)),
}


def packed_of(layer: nn.Module, **options):
    return packed_class(type(layer)).from_module(layer, **options)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("is_size_known", [True, False])
def test_a_packed_layer_computes_what_torch_does(name, is_size_known):
    layer, shape = LAYERS[name]
    x = torch.randn(shape)
    packed = packed_of(layer, input_size=shape if is_size_known and len(shape) > 1 else None)
    with torch.no_grad():
        actual = packed(x)
    expected = native(layer, x)
    assert_close(actual, expected)
    assert actual.stride() == expected.stride()
    assert_same_bits(packed.state_dict()["weight"], layer.weight)
    assert_same_bits(packed.restore().weight, layer.weight)


def test_most_layers_are_really_packed():
    """Otherwise the comparisons above are of torch's operator with itself."""
    plain = []
    for name, (layer, shape) in LAYERS.items():
        packed = packed_of(layer, input_size=shape if len(shape) > 1 else None)
        if not packed.is_packed:
            plain.append(name)
    assert set(plain) <= {"transposed depthwise"}


def test_a_linear_layer_takes_any_number_of_dims():
    layer = nn.Linear(48, 96)
    packed = PackedLinear.from_module(layer)
    for shape in [(48,), (1, 48), (7, 48), (2, 0, 48), (2, 3, 4, 48)]:
        x = torch.randn(shape)
        with torch.no_grad():
            assert_close(packed(x), native(layer, x))
    assert_same_bits(packed.state_dict()["weight"], layer.weight)


@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv2d grouped", "conv3d", "transposed 2d"])
def test_inputs_of_any_kind(name):
    """Other sizes, empty, without a batch, strided, transposed, channels last."""
    layer, shape = LAYERS[name]
    packed = packed_of(layer, input_size=shape)
    other = [shape[0] + 3, shape[1], *(n + 2 for n in shape[2:])]
    inputs = [
        torch.randn(other),
        torch.randn(shape)[:0],
        torch.randn(shape)[0],
        torch.randn(other)[..., ::2],
        torch.randn(other).transpose(0, 1)[: shape[1]].transpose(0, 1),
        torch.randn(other).transpose(1, -1).contiguous().transpose(1, -1),
    ]
    for x in inputs:
        expected = native(layer, x)
        with torch.no_grad():
            assert_close(packed(x), expected)


@pytest.mark.parametrize("name", ["conv2d", "conv3d", "transposed 2d"])
@pytest.mark.parametrize("is_weight_last", [True, False])
@pytest.mark.parametrize("is_input_last", [True, False])
def test_the_memory_format_is_torchs(name, is_weight_last, is_input_last):
    # Torch has other kernels, with other formats, for tiny layers.
    layer, shape = {
        "conv2d": (nn.Conv2d(16, 32, 3, padding=1), (2, 16, 8, 9)),
        "conv3d": (nn.Conv3d(16, 32, 3, padding=1), (2, 16, 8, 8, 9)),
        "transposed 2d": (nn.ConvTranspose2d(16, 32, 3), (2, 16, 8, 9)),
    }[name]
    last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    plain = copy.deepcopy(layer)
    if is_weight_last:
        plain = plain.to(memory_format=last)
    x = torch.randn(shape)
    x = x.contiguous(memory_format=last) if is_input_last else x
    packed = packed_of(plain, input_size=shape)
    with torch.no_grad():
        actual, expected = packed(x), plain(x)
    assert_close(actual, native(layer, x))
    for memory_format in (torch.contiguous_format, last):
        assert actual.is_contiguous(memory_format=memory_format) == expected.is_contiguous(
            memory_format=memory_format
        )
    assert packed.restore().weight.stride() == plain.weight.stride()


def test_wrong_inputs_are_refused_as_by_torch():
    packed = PackedConv2d.from_module(nn.Conv2d(3, 8, 3), input_size=(1, 3, 8, 8))
    with torch.no_grad():
        for x in (torch.ones(1, 4, 8, 8), torch.ones(1, 3, 2, 2), torch.ones(1, 3, 8, 8).double()):
            with pytest.raises(RuntimeError):
                packed(x)


def test_an_output_size_is_honoured():
    layer = nn.ConvTranspose2d(16, 8, 3, stride=2)
    packed = PackedConvTranspose2d.from_module(layer)
    x = torch.randn(1, 16, 5, 5)
    with torch.no_grad():
        assert_close(packed(x, output_size=[12, 11]), native(layer, x, output_size=[12, 11]))
        assert_close(packed(x), native(layer, x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["conv1d", "conv2d grouped", "transposed 2d grouped", "linear"])
def test_low_precision_is_right_with_and_without_kernels_for_it(name, dtype):
    layer, shape = LAYERS[name]
    packed = packed_of(layer, dtype=dtype)
    x = torch.randn(shape)
    with torch.no_grad():
        actual = packed(x.to(dtype))
    assert actual.dtype is dtype
    assert packed.weight.dtype is dtype
    assert_close(actual.float(), native(layer, x), tolerance=3e-2)
    with torch.no_grad():
        assert_close(packed(x), actual.float())  # cast, and back to what came in
        with torch.autocast("cpu", dtype):
            assert packed(x).dtype is dtype
    assert_same_bits(packed.state_dict()["weight"], layer.weight)
    assert packed.packed_nbytes <= max(1.2 * layer.weight.nbytes, layer.weight.nbytes + (16 << 10))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 8, 3),
        nn.Conv2d(4, 8, 3, groups=2, bias=False),
        nn.Conv3d(2, 4, 2),
        nn.ConvTranspose2d(8, 12, 3, stride=2, groups=2),
        nn.ConvTranspose3d(4, 8, 2, stride=2),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_batch_norm_is_folded_in(layer, dtype):
    dims = len(layer.kernel_size)
    norm = trained_norm(layer.out_channels, dims)
    x = torch.randn(2, layer.in_channels, *[6] * dims)
    model = folded_pair(layer, norm, dtype=dtype)
    with torch.no_grad():
        actual = model(x.to(dtype or torch.float32))
    expected = native(lambda: norm(layer(x)))
    assert_close(actual.float(), expected, tolerance=1e-5 if dtype is None else 3e-2)
    assert_same_bits(model[0].state_dict()["weight"], layer.weight)


def test_the_classes_are_those_they_replace():
    assert packed_class(nn.Conv2d) is PackedConv2d
    assert packed_class(nn.Embedding) is None
    for packed, plain in [
        (PackedConv1d, nn.Conv1d),
        (PackedConv3d, nn.Conv3d),
        (PackedConvTranspose3d, nn.ConvTranspose3d),
    ]:
        assert issubclass(packed, plain)
