from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from corestream.ops import LSTMWeights, lstm_layer


def layer_of(features, hidden, *, bias=True, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.LSTM(features, hidden, bias=bias, dtype=dtype).eval().requires_grad_(False)


def weights_of(layer):
    names = ("bias_ih", "bias_hh") if layer.bias else ()
    biases = {name: getattr(layer, f"{name}_l0") for name in names}
    return LSTMWeights.of(layer.weight_ih_l0, layer.weight_hh_l0, **biases)


def steps(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_torch(layer, x, h0, c0, *, reverse=False):
    double = layer.double()
    output, (last, state) = double(
        x.double().flip(0) if reverse else x.double(), (h0[None].double(), c0[None].double())
    )
    return output.flip(0) if reverse else output, last[0], state[0]


@given(
    batch=st.integers(0, 9),
    num_steps=st.integers(1, 7),
    features=st.integers(1, 40),
    hidden=st.integers(1, 70),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    threads=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_any_layer(batch, num_steps, features, hidden, flags, threads, dtype):
    bias, batch_first, reverse = flags
    layer = layer_of(features, hidden, bias=bias, dtype=dtype)
    x = steps(num_steps, batch, features, dtype=dtype)
    h0, c0 = (steps(batch, hidden, dtype=dtype, seed=seed) for seed in (1, 2))
    weights, before = weights_of(layer), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        given_steps = x.transpose(0, 1).contiguous() if batch_first else x
        results = lstm_layer(
            given_steps, weights, h0=h0, c0=c0, batch_first=batch_first, reverse=reverse
        )
    finally:
        torch.set_num_threads(before)
    output, *ends = results
    found = (output.transpose(0, 1) if batch_first else output, *ends)
    limit = 5e-2 if dtype == torch.bfloat16 else 1e-5
    for one, expected in zip(found, by_torch(layer, x, h0, c0, reverse=reverse), strict=True):
        torch.testing.assert_close(one.double(), expected, rtol=limit, atol=limit)
        assert one.dtype == dtype


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("flags", [(False, False), (True, True)])
def test_members_of_a_team_read_what_the_others_wrote(threads, flags):
    """Wide enough for four members, which few of a property test's layers are."""
    batch_first, reverse = flags
    layer, x = layer_of(24, 200), steps(12, 3, 24)
    h0, c0 = steps(3, 200, seed=1), steps(3, 200, seed=2)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        given_steps = x.transpose(0, 1).contiguous() if batch_first else x
        output, *ends = lstm_layer(
            given_steps, weights_of(layer), h0=h0, c0=c0, batch_first=batch_first, reverse=reverse
        )
    finally:
        torch.set_num_threads(before)
    found = (output.transpose(0, 1) if batch_first else output, *ends)
    for one, expected in zip(found, by_torch(layer, x, h0, c0, reverse=reverse), strict=True):
        torch.testing.assert_close(one.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_dtype_without_a_kernel_cannot_be_packed():
    layer = layer_of(4, 4, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="must be float32 or bfloat16"):
        weights_of(layer)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[:, :, 2:7],
        lambda x: x[::2, :, :5],
        lambda x: x[:, :1, :5].expand(-1, 3, -1),
        lambda x: x[:, :, :5].transpose(0, 1).contiguous().transpose(0, 1),
    ],
    ids=["slice of features", "steps left out", "one for all", "batch inside"],
)
def test_other_layouts_are_right_too(change):
    layer, x = layer_of(5, 20), change(steps(6, 3, 9))
    h0 = steps(20, 3).t()
    found = lstm_layer(x, weights_of(layer), h0=h0, c0=h0[:1].expand(3, -1))
    expected = by_torch(layer, x, h0, h0[:1].expand(3, -1))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_weights_for_other_kernels_are_unpacked(batch_first, reverse):
    """A model that was saved on another CPU: panels of up to four vectors, here or there."""
    layer, x, state = layer_of(8, 16), steps(2, 2, 8), steps(2, 16)
    weights = weights_of(layer)
    packed = weights.packed_input
    if packed.dim() == 2:
        foreign = packed.view(4, 8, 16).transpose(0, 1).flatten()
    else:
        foreign = packed.view(8, 4, 16).transpose(0, 1).reshape(4, -1)
    twin = LSTMWeights(foreign, weights.packed_hidden, weights.bias)
    options = {"h0": state, "c0": state, "batch_first": batch_first, "reverse": reverse}
    expected = lstm_layer(x, weights, **options)
    for one, other in zip(lstm_layer(x, twin, **options), expected, strict=True):
        torch.testing.assert_close(one, other)
        assert one.stride() == other.stride()


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_are_those_of_torch(reverse):
    layer, x = layer_of(6, 10), steps(5, 2, 6).requires_grad_()
    state = steps(2, 10, seed=1).requires_grad_()
    twins = [tensor.detach().clone().requires_grad_() for tensor in (x, state)]
    weights = weights_of(layer)
    factors = steps(5, 2, 10, seed=2)
    output = lstm_layer(x, weights, h0=state, c0=state, reverse=reverse)[0]
    (output * factors).sum().backward()
    in_order = twins[0].flip(0) if reverse else twins[0]
    expected = layer(in_order, (twins[1][None], twins[1][None]))[0]
    ((expected.flip(0) if reverse else expected) * factors).sum().backward()
    for tensor, twin in zip((x, state), twins, strict=True):
        torch.testing.assert_close(tensor.grad, twin.grad)


def test_under_autocast_it_is_computed_in_its_weights_dtype():
    layer, x, zeros = layer_of(6, 10), steps(5, 2, 6), torch.zeros(2, 10)
    expected = lstm_layer(x, weights_of(layer), h0=zeros, c0=zeros)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = lstm_layer(x.bfloat16().float(), weights_of(layer), h0=zeros, c0=zeros)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


def test_shapes_are_known_without_data():
    meta = {"device": "meta"}
    packed = [torch.empty(size, **meta) for size in (128 * 6, 128 * 20)]
    zeros = torch.empty(2, 20, **meta)
    weights = LSTMWeights(*packed, None)
    output, last, state = lstm_layer(torch.empty(5, 2, 6, **meta), weights, h0=zeros, c0=zeros)
    assert (output.shape, last.shape, state.shape) == ((5, 2, 20), (2, 20), (2, 20))


@pytest.mark.parametrize(
    ("x", "state", "reason"),
    [
        ((5, 2), (2, 10), "must have 3 dims"),
        ((0, 2, 6), (2, 10), "must have a step"),
        ((5, 2, 6), (3, 10), r"h0 must be \(batch, hidden\) of 2 sequences"),
        ((5, 2, 6), (1, 2, 10), r"must be \(batch, hidden\)"),
        ((5, 2, 7), (2, 10), "packed must be what pack_convolution"),
        ((5, 2, 6), (2, 40), "packed must be what pack_convolution"),
    ],
)
def test_what_does_not_fit_is_refused(x, state, reason):
    weights, zeros = weights_of(layer_of(6, 10)), torch.zeros(state)
    with pytest.raises(RuntimeError, match=reason):
        lstm_layer(torch.zeros(x), weights, h0=zeros, c0=zeros)


@pytest.mark.parametrize("sizes", [((40, 6), (40, 8)), ((41, 6), (40, 10)), ((40, 6), (40,))])
def test_only_the_weights_of_an_lstm_are_packed(sizes):
    with pytest.raises(ValueError, match="projections are torch's"):
        LSTMWeights.of(*map(torch.zeros, sizes))


def test_biases_are_those_of_the_layer():
    weights = torch.zeros(40, 6), torch.zeros(40, 10)
    with pytest.raises(ValueError, match=r"must be \(4 \* hidden,\) = \(40,\); got \(44,\)"):
        LSTMWeights.of(*weights, bias_ih=torch.zeros(40), bias_hh=torch.zeros(44))
