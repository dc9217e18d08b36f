from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import corestream
from corestream.lowering import own_linear as own_linear_module
from corestream.lowering.linear_fusion import fuse_after_linear
from corestream.lowering.own_linear import LinearShape, OwnLinear, use_own_linear
from corestream.lowering.timed_for import TimedFor
from corestream.measure import ModelInputs
from corestream.ops import has_kernels, linear, pack_linear

INPUTS = ModelInputs((torch.randn(3, 10, 16),), {})
DYNAMIC = torch.export.Dim("batch")


class Feed(nn.Module):
    """A transformer's, and a layer of another kind of linear layer."""

    def __init__(self, activation):
        super().__init__()
        self.up, self.down = nn.Linear(16, 40), nn.Linear(40, 16, bias=False)
        self.activation = activation
        self.eval().requires_grad_(False)

    def forward(self, x):
        return x + self.down(self.activation(self.up(x)))


@pytest.fixture
def decided(monkeypatch):
    """What would be measured: whether our kernel is faster, and which shapes were asked about."""
    asked = []

    def decide(answer):
        def is_faster(shape, **_):
            asked.append(shape)
            return answer

        monkeypatch.setattr(LinearShape, "our_kernel_is_faster", is_faster)
        monkeypatch.setattr(own_linear_module, "has_kernels", lambda _: True)
        return asked

    return decide


def graph_of(model):
    program = torch.export.export(model, INPUTS.args, dynamic_shapes=({0: DYNAMIC},))
    fused = fuse_after_linear(program.graph_module)
    return program, fused


@pytest.mark.parametrize(
    ("activation", "is_fused"),
    [
        (nn.GELU(), True),
        (nn.ReLU(), True),
        (nn.ReLU(inplace=True), True),
        (nn.GELU(approximate="tanh"), False),
        (nn.SiLU(), False),
    ],
)
def test_a_layer_that_is_faster_is_ours_with_what_follows_it(decided, activation, is_fused):
    asked = decided(True)
    model, (x,) = Feed(activation), INPUTS.args
    expected = model(x)
    assert use_own_linear(model, INPUTS, timed_for=TimedFor(1)) == 2
    assert {(shape.rows, shape.in_features, shape.out_features) for shape in asked} == {
        (30, 16, 40),
        (30, 40, 16),
    }
    program, fused = graph_of(model)
    assert fused == is_fused
    torch.testing.assert_close(program.module()(x), expected, rtol=1e-4, atol=1e-5)


def test_what_is_read_twice_is_not_fused(decided):
    decided(True)

    class Twice(Feed):
        def forward(self, x):
            up = self.up(x)
            return torch.relu(up) + up

    model = Twice(None)
    use_own_linear(model, INPUTS, timed_for=TimedFor(1))
    assert graph_of(model)[1] == 0


def test_limits_of_a_call_and_names_of_outputs_are_kept(decided):
    decided(True)
    packed = pack_linear(torch.randn(40, 16))

    class Limited(nn.Module):
        def forward(self, x):
            return nn.functional.gelu(linear(x, packed, out_features=40, low=-1.0)) * 2

    (x,) = INPUTS.args
    program, fused = graph_of(Limited())
    assert fused == 0
    torch.testing.assert_close(program.module()(x), Limited()(x))
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU()).eval()
    use_own_linear(model, INPUTS, timed_for=TimedFor(1))
    program, fused = graph_of(model)
    assert fused == 0
    program.validate()


def test_a_layer_that_is_not_faster_is_torchs(decided):
    decided(False)
    model = Feed(nn.GELU())
    assert use_own_linear(model, INPUTS, timed_for=TimedFor(1)) == 0
    assert type(model.up) is nn.Linear


def test_layers_that_do_more_than_multiply_are_left_alone(decided):
    decided(True)
    hooked, normed, double = Feed(nn.GELU()), Feed(nn.GELU()), Feed(nn.GELU())
    hooked.up.register_forward_hook(lambda module, args, output: output * 2)
    nn.utils.parametrizations.weight_norm(normed.up)
    double.up.double()
    assert [use_own_linear(one, INPUTS, timed_for=TimedFor(1)) for one in (hooked, normed)] == [
        1,
        1,
    ]
    assert not isinstance(hooked.up, OwnLinear)
    assert not isinstance(normed.up, OwnLinear)

    class UnderAutocast(Feed):
        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(x)

    assert use_own_linear(UnderAutocast(nn.GELU()), INPUTS, timed_for=TimedFor(1)) == 0


def test_a_layer_in_two_places_is_one_layer(decided):
    decided(True)
    layer = nn.Linear(16, 16)
    model = nn.Sequential(layer, nn.ReLU(), layer).eval()
    assert use_own_linear(model, INPUTS, timed_for=TimedFor(1)) == 1
    assert model[0] is model[2]


def test_measuring_gives_an_answer():
    shape = LinearShape.of(torch.randn(3, 16), torch.randn(40, 16), timed_for=TimedFor(1))
    assert (shape is not None) == has_kernels(torch.float32)
    assert LinearShape.of(torch.ones(2, 4), torch.ones(0, 4), timed_for=TimedFor(1)) is None
    assert LinearShape.of(torch.randn(3, 16), torch.randn(16), timed_for=TimedFor(1)) is None
    if shape is not None:
        for is_compiled in (True, False):
            with_gelu = replace(shape, has_gelu=True)
            assert with_gelu.our_kernel_is_faster(is_compiled=is_compiled) in (True, False)
            assert shape.our_kernel_is_faster(is_compiled=is_compiled) in (True, False)


def exact(out):
    return nn.functional.gelu(out)


def tanh(out):
    return nn.functional.gelu(out, approximate="tanh")


@pytest.mark.parametrize(
    ("activation", "has_gelu"),
    [(exact, True), (nn.GELU(), True), (tanh, False), (torch.relu, False)],
)
def test_a_gelu_that_becomes_a_part_of_the_layer_counts(decided, activation, has_gelu):
    class Feed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(16, 24), nn.Linear(24, 16)

        def forward(self, x):
            return self.second(activation(self.first(x)))

    asked = decided(True)
    assert use_own_linear(Feed().eval(), INPUTS, timed_for=TimedFor(1)) == 2
    assert {shape.out_features: shape.has_gelu for shape in asked} == {24: has_gelu, 16: False}


@pytest.mark.skipif(
    not (has_kernels(torch.float32) and torch.backends.mkldnn.is_available()),
    reason="needs two kernels to choose from",
)
def test_the_rival_is_what_would_be_called_else(monkeypatch):
    """Compiled graphs do not call torch's own, however fast it is."""

    def torchs(*_):
        raise AssertionError("called")

    monkeypatch.setattr(nn.functional, "linear", torchs)
    shape = LinearShape.of(torch.randn(3, 17), torch.randn(41, 17), timed_for=TimedFor(1))
    assert shape.our_kernel_is_faster(is_compiled=True) in (True, False)
    with pytest.raises(AssertionError, match="called"):
        shape.our_kernel_is_faster(is_compiled=False)


def test_a_lowered_model_with_it_is_right_and_can_be_saved(decided, tmp_path):
    decided(True)
    model = Feed(nn.GELU())
    lowered = corestream.lower(model, *INPUTS.args, backend="aotinductor", cache=False)
    lowered.save(tmp_path / "model.pt2")
    loaded = corestream.load(tmp_path / "model.pt2")
    for batch in (1, 3, 7):
        x = torch.randn(batch, 10, 16)
        torch.testing.assert_close(lowered(x), model(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(loaded(x), model(x), rtol=1e-4, atol=1e-5)
