"""Whatever the weight, its scale and its rounding: estimate and residual give its very bits."""

from __future__ import annotations

import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from corestream.nn import PackedConvTranspose2d, residual
from corestream.nn.layout import LinearLayout
from corestream.nn.store import WeightStore
from tests.unit.nn.native import assert_same_bits

DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
PATTERNS = st.integers(0, 2**32 - 1)
ODD = [0.0, -0.0, 1.0, -1.5, 1e-45, -1e-40, 1.2e-38, 3.4e38, float("inf"), float("nan")]
FLOATS = st.one_of(st.sampled_from(ODD), st.floats(width=32))
SCALES = st.one_of(st.sampled_from([*ODD, 1e-320, 1e300]), st.floats(-4, 4))


def from_patterns(patterns: list[int]) -> torch.Tensor:
    signed = [struct.unpack("i", struct.pack("I", pattern))[0] for pattern in patterns]
    return torch.tensor(signed, dtype=torch.int32).view(torch.float32)


@given(st.lists(PATTERNS, min_size=1, max_size=40), st.data())
def test_any_bits_come_back_from_any_estimate(patterns, data):
    original = from_patterns(patterns)
    guess = from_patterns([data.draw(PATTERNS) for _ in patterns])
    # Near misses are what it is made for.
    for index in data.draw(st.sets(st.integers(0, len(patterns) - 1))):
        guess[index] = original[index]
    lacks = residual.encode(original, lambda start, stop: guess[start:stop])
    found = residual.decode(lacks, torch.empty_like(original), estimate_of=lambda a, b: guess[a:b])
    assert_same_bits(found, original)


@given(st.integers(1, 5), st.integers(1, 9), DTYPES, DTYPES, st.booleans(), st.data())
def test_a_store_gives_back_what_it_was_given(
    rows, columns, dtype, original_dtype, is_folded, data
):
    values = data.draw(st.lists(FLOATS, min_size=rows * columns, max_size=rows * columns))
    weight = torch.tensor(values, dtype=torch.float32).view(rows, columns).to(original_dtype)
    store = WeightStore(weight.clone(), layout=LinearLayout(), dtype=dtype)
    if is_folded:
        scales = data.draw(st.lists(SCALES, min_size=rows, max_size=rows))
        scale = torch.tensor(scales, dtype=torch.float64)
        store.fold(scale, torch.zeros(rows, dtype=torch.float64))
    store.form_for(None, None)
    assert_same_bits(store.original(), weight)


@given(st.integers(1, 5), st.integers(1, 9), st.data())
def test_decoding_does_not_depend_on_how_the_thread_treats_denormals(rows, columns, data):
    values = data.draw(st.lists(FLOATS, min_size=rows * columns, max_size=rows * columns))
    scale = torch.tensor(data.draw(st.lists(SCALES, min_size=rows, max_size=rows))).double()
    weight = torch.tensor(values, dtype=torch.float32).view(rows, columns)
    store = WeightStore(weight.clone(), layout=LinearLayout())
    store.fold(scale, torch.zeros(rows, dtype=torch.float64))
    store.form_for(None, None)
    is_supported = torch.set_flush_denormal(True)
    try:
        found = store.original()
    finally:
        torch.set_flush_denormal(False)
    assert is_supported
    assert_same_bits(found, weight)


@pytest.mark.parametrize(
    ("dtype", "is_folded", "most_bytes"),
    [
        (torch.float32, False, 0.0),
        (torch.float32, True, 0.25),
        (torch.bfloat16, False, 2.0),
        (torch.bfloat16, True, 2.3),
        (torch.float16, False, 2.0),
    ],
)
def test_the_residual_of_an_ordinary_weight_is_small(dtype, is_folded, most_bytes):
    weight = torch.randn(600, 500)
    store = WeightStore(weight, layout=LinearLayout(), dtype=dtype)
    if is_folded:
        scale = torch.randn(600, dtype=torch.float64)
        store.fold(scale, torch.zeros(600, dtype=torch.float64))
    lacks = store.form_for(None, None).residual
    nbytes = 0 if lacks is None else lacks.nbytes
    assert nbytes <= most_bytes * weight.numel() * 1.01
    assert_same_bits(store.original(), weight)


def test_channels_that_were_pruned_cost_what_they_weigh():
    weight, scale = torch.randn(1024, 1024), torch.rand(1024, dtype=torch.float64) + 0.5
    scale[100:228] = 0.0
    scale[500] = 1e-41
    store = WeightStore(weight, layout=LinearLayout())
    store.fold(scale, torch.zeros(1024, dtype=torch.float64))
    lacks = store.form_for(None, None).residual
    # The values of what was pruned, and a sixteenth of the others.
    assert lacks.nbytes < 129 * (4 * 1024 + 8) + 0.26 * weight.numel()
    assert_same_bits(store.original(), weight)


def test_pruned_channels_of_a_grouped_transposed_convolution_come_back():
    conv, scale = nn.ConvTranspose2d(8, 12, 3, groups=2), torch.ones(12, dtype=torch.float64)
    scale[[0, 5, 7]] = 0.0
    packed = PackedConvTranspose2d.from_module(conv, scale=scale, shift=torch.zeros_like(scale))
    with torch.no_grad():
        packed(torch.ones(1, 8, 5, 5))
    assert_same_bits(packed.state_dict()["weight"], conv.weight)
