"""The state, copies, conversions and gradients of packed layers are those of the plain ones."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from corestream.nn import ConcatLinear, PackedConv2d, PackedLinear
from tests.unit.nn.native import assert_close, assert_same_bits, folded_pair, native, trained_norm


@pytest.fixture
def plain():
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), trained_norm(16))
    return model.eval().requires_grad_(False)


@pytest.fixture
def packed(plain):
    return folded_pair(plain[0], plain[1], input_size=(2, 3, 9, 10)).eval()


@pytest.fixture
def x():
    return torch.randn(2, 3, 9, 10)


def other_state(plain):
    other = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), trained_norm(16)).requires_grad_(False)
    assert not other[0].weight.equal(plain[0].weight)
    return other


def assert_computes(model, plain, x, tolerance=1e-5):
    with torch.no_grad():
        assert_close(model(x), native(plain, x), tolerance=tolerance)


def test_the_state_has_the_same_keys_and_bits(packed, plain):
    actual, expected = packed.state_dict(), plain.state_dict()
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert actual[name].equal(value)
        assert type(actual[name]) is torch.Tensor
    assert_same_bits(actual["0.weight"], expected["0.weight"])


def test_without_exact_state_the_weight_is_near(plain):
    model = folded_pair(plain[0], plain[1], exact_state=False, input_size=(2, 3, 9, 10))
    exact = folded_pair(plain[0], plain[1], input_size=(2, 3, 9, 10))
    assert_close(model.state_dict()["0.weight"], plain[0].weight)
    assert model[0].packed_nbytes < exact[0].packed_nbytes


@pytest.mark.parametrize("assign", [True, False])
def test_loading_packs_the_new_values(packed, plain, x, assign):
    other = other_state(plain)
    packed.load_state_dict(other.state_dict(), assign=assign)
    assert_computes(packed, other, x)
    assert packed[0].is_packed
    assert_same_bits(packed.state_dict()["0.weight"], other[0].weight)


def test_loading_one_submodule_packs_anew(packed, plain, x):
    other = other_state(plain)
    packed[1].load_state_dict(other[1].state_dict())
    assert_computes(packed, nn.Sequential(plain[0], other[1]), x)
    packed[0].load_state_dict(other[0].state_dict())
    assert_computes(packed, other, x)


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.running_var", "1.weight"])
def test_a_partial_load_changes_only_that(packed, plain, x, name):
    other = other_state(plain)
    part = {name: other.state_dict()[name]}
    packed.load_state_dict(part, strict=False)
    plain.load_state_dict(part, strict=False)
    assert_computes(packed, plain, x)


def test_a_wrong_state_is_refused_as_by_the_plain_layer(packed, plain):
    state = plain.state_dict()
    del state["0.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*0\.weight"):
        packed.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"size mismatch for 0\.weight"):
        packed.load_state_dict(plain.state_dict() | {"0.weight": torch.ones(1)})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        packed.load_state_dict(plain.state_dict() | {"0.more": torch.ones(1)})


def through_torch_save(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), through_torch_save]
)
def test_copies_are_whole_and_apart(packed, plain, x, copied):
    twin = copied(packed)
    assert_computes(twin, plain, x)
    assert_same_bits(twin.state_dict()["0.weight"], plain[0].weight)
    other = other_state(plain)
    twin.load_state_dict(other.state_dict())
    assert_computes(twin, other, x)
    assert_computes(packed, plain, x)
    twin[1].load_state_dict(plain[1].state_dict())
    assert_computes(twin, nn.Sequential(other[0], plain[1]), x)


def test_a_deep_copy_shares_the_packed_weight(packed):
    twin = copy.deepcopy(packed)
    assert twin[0]._store.form.weight is packed[0]._store.form.weight
    assert twin[0].weight is not packed[0].weight
    assert twin[0].weight.source is twin[0]._store


def test_conversions(packed, plain, x):
    assert_computes(copy.deepcopy(packed).float(), plain, x)
    double = copy.deepcopy(packed).double()
    assert double[0].weight.dtype is torch.float64
    assert_computes(double, copy.deepcopy(plain).double(), x.double(), tolerance=1e-10)
    assert_computes(double.float(), plain, x)
    half = copy.deepcopy(packed).to(torch.bfloat16)
    assert half.state_dict()["0.weight"].dtype is torch.bfloat16
    with torch.no_grad():
        assert_close(half(x.bfloat16()).float(), native(plain, x), tolerance=5e-2)
    last = copy.deepcopy(packed).to(memory_format=torch.channels_last)
    assert_computes(last, plain, x)
    with torch.no_grad():
        assert last(x).is_contiguous(memory_format=torch.channels_last)
    meta = copy.deepcopy(packed).to("meta")
    with torch.no_grad():
        assert meta(x.to("meta")).shape == (2, 16, 9, 10)


def test_float_undoes_a_narrower_dtype_exactly(plain, x):
    layer = PackedConv2d.from_module(plain[0], dtype=torch.bfloat16)
    assert layer.weight.dtype is torch.bfloat16
    layer.float()
    assert layer.weight.dtype is torch.float32
    assert_computes(layer, plain[0], x)


def test_shared_memory_is_shared_and_right(packed, plain, x):
    packed.share_memory()
    assert_computes(packed, plain, x)
    assert packed[0]._store.original().is_shared()


def test_training_mode_is_refused(packed, x):
    packed.train()
    with pytest.raises(RuntimeError, match="must be in eval mode"):
        packed(x)
    packed.eval()(x)


def test_restoring_gives_the_plain_modules_back(packed, plain, x):
    restored = nn.Sequential(*(module.restore() for module in packed))
    assert [type(module) for module in restored] == [nn.Conv2d, type(plain[1])]
    for name, value in plain.state_dict().items():
        assert restored.state_dict()[name].equal(value)
    assert_computes(restored, plain, x)
    assert_computes(packed, plain, x)
    trainable = PackedLinear.from_module(nn.Linear(4, 4)).restore()
    assert trainable.weight.requires_grad
    assert type(trainable.weight) is nn.Parameter


def test_the_weight_reads_as_a_parameter(packed, plain):
    weight = packed[0].weight
    assert isinstance(weight, nn.Parameter)
    assert (weight.dtype, weight.device, weight.shape) == (
        torch.float32,
        torch.device("cpu"),
        plain[0].weight.shape,
    )
    assert [name for name, _ in packed.named_parameters()] == [
        name for name, _ in plain.named_parameters()
    ]
    assert sum(p.numel() for p in packed.parameters()) == sum(p.numel() for p in plain.parameters())
    assert_close(weight + 0, plain[0].weight)
    assert_close(weight.norm(), plain[0].weight.norm())
    assert "Packed parameter" in repr(weight)


def test_writing_to_the_weight_packs_anew(packed, plain, x):
    packed[0].weight.data.mul_(2)
    plain[0].weight.data.mul_(2)
    assert_computes(packed, plain, x)
    packed[0].weight[3] = 0.5
    plain[0].weight[3] = 0.5
    assert_computes(packed, plain, x)
    nn.init.ones_(packed[0].weight)
    nn.init.ones_(plain[0].weight)
    assert_computes(packed, plain, x)
    packed[0].weight = nn.Parameter(plain[0].weight * 3)
    plain[0].weight.mul_(3)
    assert_computes(packed, plain, x)
    packed[0].bias = plain[0].bias = nn.Parameter(torch.ones(16), requires_grad=False)
    assert_computes(packed, plain, x)


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var"])
def test_assigning_to_a_folded_norm_packs_anew(packed, plain, x, name):
    for model in (packed, plain):
        value = torch.full((16,), 3.0)
        is_parameter = name in ("weight", "bias")
        setattr(model[1], name, nn.Parameter(value, False) if is_parameter else value)
        model[1].eps = 0.5
    assert_computes(packed, plain, x)


def test_gradients_of_the_input_and_the_parameters_are_right(packed, plain, x):
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    packed(inputs[0]).square().sum().backward()
    plain(inputs[1]).square().sum().backward()
    assert_close(inputs[0].grad, inputs[1].grad, tolerance=1e-4)
    assert not packed(x).requires_grad
    packed[0].requires_grad_(True)
    plain[0].requires_grad_(True)
    packed(x).square().sum().backward()
    plain(x).square().sum().backward()
    assert_close(packed[0].weight.grad, plain[0].weight.grad, tolerance=1e-4)
    assert_close(packed[0].bias.grad, plain[0].bias.grad, tolerance=1e-4)


def test_autocast_rules_as_for_the_plain_layer(packed, plain, x):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert packed(x).dtype is plain(x).dtype is torch.bfloat16


def test_hooks_and_attributes_are_carried_over_and_back(x):
    conv, calls = nn.Conv2d(3, 4, 3), []
    conv.register_forward_pre_hook(lambda *_: calls.append("before"))
    handle = conv.register_forward_hook(lambda *_: calls.append("after"))
    conv.note = {"user": "s"}
    layer = PackedConv2d.from_module(conv)
    for module in (layer, layer.restore()):
        calls.clear()
        module(x)
        assert calls == ["before", "after"]
        assert module.note is conv.note
    handle.remove()
    calls.clear()
    layer(x)
    assert calls == ["before"]


def test_the_text_says_what_is_packed(packed):
    text = repr(packed[0])
    assert text.startswith("PackedConv2d(3, 16, kernel_size=(3, 3), stride=(1, 1)")
    assert "folded" in text
    assert "folded" in repr(packed[1])
    assert "not packed yet" in repr(PackedConv2d.from_module(nn.Conv2d(3, 4, 3)))


@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_trace_has_the_plain_operator_and_runs_any_batch(packed, plain, x, is_frozen):
    with torch.no_grad():
        graph = torch.jit.trace(packed, x)
        graph = torch.jit.freeze(graph) if is_frozen else graph
        file = io.BytesIO()
        torch.jit.save(graph, file)
        file.seek(0)
        loaded = torch.jit.load(file)
        for inputs in (x, x[:1], torch.cat([x, x])):
            assert_close(loaded(inputs), native(plain, inputs))


def test_an_export_runs(packed, plain, x):
    with torch.no_grad():
        assert_close(torch.export.export(packed, (x,)).module()(x), native(plain, x))


def test_all_of_it_for_layers_computed_as_one():
    linears = [nn.Linear(8, 16), nn.Linear(8, 4, bias=False)]
    model = nn.ModuleList(ConcatLinear.from_modules(linears))
    x = torch.randn(3, 8)
    for twin in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(twin.state_dict()) == ["0.weight", "0.bias", "1.weight"]
        for member, linear in zip(twin, linears, strict=True):
            assert_same_bits(member.state_dict()["weight"], linear.weight)
            assert_same_bits(member.restore().weight, linear.weight)
            assert_computes(member, linear, x)
    other = nn.Linear(8, 4, bias=False)
    model[1].load_state_dict(other.state_dict())
    assert_computes(model[0], linears[0], x)
    assert_computes(model[1], other, x)
    model[1].double()
    assert_computes(model[0], linears[0], x)
    assert_computes(model[1], other.double(), x.double(), tolerance=1e-10)
