"""A model in another dtype: over the same weights, the user's own untouched."""

from __future__ import annotations

import copy

import torch
from torch import nn

from corestream.lowering.casting import in_dtype, share_weights
from corestream.measure.inputs import ModelInputs
from tests.unit.lowering.models import Named, TinyCNN, images


def test_a_copy_shares_memory_and_nothing_else():
    model = TinyCNN().eval()
    twin = share_weights(model)
    assert twin.conv.weight.data_ptr() == model.conv.weight.data_ptr()
    twin.to(torch.bfloat16)
    twin.norm.register_forward_hook(lambda *_: None)
    assert model.conv.weight.dtype == torch.float32
    assert model.norm.running_mean.dtype == torch.float32
    assert not model.norm._forward_hooks


def test_tied_weights_stay_tied():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    twin = in_dtype(model.eval(), ModelInputs.of(torch.rand(1, 3)), dtype=torch.bfloat16)
    assert twin[0].weight is twin[1].weight


def test_normalisations_keep_their_precision():
    model = TinyCNN().eval()
    twin = in_dtype(model, ModelInputs.of(images(2)), dtype=torch.bfloat16)
    assert twin.conv.weight.dtype == twin.head.bias.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in twin.norm.state_dict().values()} == {
        torch.float32,
        torch.int64,
    }


def test_inputs_are_cast_on_the_way_in_and_outputs_back():
    seen = []

    class Spy(Named):
        def forward(self, x, mask=None, scale=None):
            seen.append((x.dtype, None if mask is None else mask.dtype))
            return super().forward(x, mask, scale)

    model = Spy().eval()
    model.linear.double()
    inputs = ModelInputs((torch.rand(2, 6).double(),), {"mask": torch.ones(2, dtype=torch.long)})
    twin = in_dtype(model, inputs, dtype=torch.bfloat16)
    seen.clear()
    with torch.no_grad():
        output = inputs.call(twin)
    assert seen == [(torch.bfloat16, torch.int64)]
    assert output["y"].dtype == torch.float64
    assert output["positive"].dtype == torch.bool


def test_the_users_own_hooks_see_what_they_saw():
    model = nn.Linear(2, 2).eval()
    model.register_forward_hook(lambda module, args, output: output + 1)
    x = torch.rand(2, 2)
    twin = in_dtype(copy.deepcopy(model), ModelInputs.of(x), dtype=torch.bfloat16)
    with torch.no_grad():
        assert (twin(x) - model(x)).abs().max() < 0.05
