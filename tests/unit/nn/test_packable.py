"""What is left alone, and why."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from corestream.nn import (
    FoldedBatchNorm,
    PackedConv2d,
    PackedLinear,
    batch_norm_affine,
    can_pack,
    shared_parameters,
    why_not_packable,
)


class OwnForward(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


def patched():
    layer = nn.Linear(4, 4)
    layer.forward = lambda x: x
    return layer


def with_hook_made_weight():
    with pytest.warns(FutureWarning):
        return weight_norm(nn.Conv2d(4, 4, 3))


REASONS = {
    "no packed kernel": lambda: nn.Embedding(4, 4),
    "forward of its own": lambda: OwnForward(4, 4),
    "forward has been replaced": patched,
    "parametrizations": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "weight_norm": with_hook_made_weight,
    "LazyLinear": lambda: nn.LazyLinear(4),
    "padding mode": lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    "side to side": lambda: nn.Conv2d(4, 4, (2, 3), padding="same"),
    "output padding": lambda: nn.ConvTranspose2d(4, 4, 3, output_padding=1, dilation=2),
    "float64": lambda: nn.Linear(4, 4).double(),
    "complex": lambda: nn.Linear(4, 4, dtype=torch.complex64),
    "on meta": lambda: nn.Linear(4, 4, device="meta"),
    "is empty": lambda: nn.Linear(4, 0),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("reason", REASONS)
def test_the_reason_is_given(reason):
    module = REASONS[reason]()
    assert reason in why_not_packable(module)
    with pytest.raises(ValueError, match=r"must be an nn\.Linear that can be packed"):
        PackedLinear.from_module(module)


def test_bias_and_weight_of_two_dtypes_are_left_alone():
    layer = nn.Linear(4, 4).bfloat16()
    layer.bias = nn.Parameter(torch.ones(4))
    assert "differ in dtype" in why_not_packable(layer)


def test_tied_weights_are_left_alone():
    model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 8), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    shared = shared_parameters(model)
    assert "shared" in why_not_packable(model[1], shared=shared)
    assert why_not_packable(model[2], shared=shared) is None


def test_a_shared_bias_is_left_alone():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].bias = model[0].bias
    assert "its bias is shared" in why_not_packable(model[1], shared=shared_parameters(model))


def test_another_kind_of_layer_is_refused():
    with pytest.raises(ValueError, match="its class is Linear"):
        PackedConv2d.from_module(nn.Linear(4, 4))


def test_scale_and_shift_go_together():
    with pytest.raises(ValueError, match="both given or None"):
        PackedLinear.from_module(nn.Linear(4, 4), scale=torch.ones(4).double())


def test_a_dtype_without_kernels_is_refused():
    assert "int8" in why_not_packable(nn.Linear(4, 4), torch.int8)
    assert not can_pack(torch.int8)


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(4, track_running_stats=False), nn.LayerNorm(4), nn.Identity()]
)
def test_a_norm_without_statistics_cannot_be_folded(norm):
    with pytest.raises(ValueError, match="norm must be a batch norm with running statistics"):
        batch_norm_affine(norm)
    with pytest.raises(ValueError, match="norm must be"):
        FoldedBatchNorm.from_module(norm, into=PackedConv2d.from_module(nn.Conv2d(3, 4, 3)))


def test_a_norm_without_affine_is_folded():
    norm = nn.BatchNorm1d(3, affine=False).eval()
    norm.running_mean.fill_(1)
    norm.running_var.fill_(4)
    scale, shift = batch_norm_affine(norm)
    x = torch.randn(5, 3)
    torch.testing.assert_close((x * scale + shift).float(), norm(x))
