"""Folding a batch norm is right whatever the geometry of the layer before it."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from corestream.measure import compare
from corestream.optimization import optimize
from tests.unit.optimization.models import trained

NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@st.composite
def layers(draw):
    dims = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = (groups * draw(st.integers(1, 5)) for _ in range(2))
    is_transposed = draw(st.booleans())
    options = {
        "stride": draw(st.integers(1, 2)),
        "dilation": draw(st.integers(1, 2)),
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    kernel = draw(st.tuples(*[st.integers(1, 3)] * dims))
    if is_transposed:
        options["padding"] = draw(st.integers(0, 1))
    else:
        paddings = [0, 1, "valid"] + (["same"] if options["stride"] == 1 else [])
        options["padding"] = draw(st.sampled_from(paddings))
        options["padding_mode"] = draw(st.sampled_from(["zeros", "zeros", "replicate"]))
    kind = (TRANSPOSED if is_transposed else CONVS)[dims]
    norm = NORMS[dims](outputs, affine=draw(st.booleans()), eps=draw(st.sampled_from([1e-5, 0.1])))
    return kind(inputs, outputs, kernel, **options), norm


# torch says so once in a process, in whichever test comes first: padding="same", even kernels.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@given(layers(), st.integers(0, 1000))
@settings(max_examples=40)
def test_a_folded_batch_norm_changes_nothing(pair, seed):
    torch.manual_seed(seed)
    conv, norm = pair
    model = trained(nn.Sequential(conv, norm))
    x = torch.randn(2, conv.in_channels, *[7] * len(conv.kernel_size))
    state = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        expected = model(x)
        fast = optimize(model)
        actual = fast(x)
    found = compare(actual, expected, dtype=torch.float32)
    assert found.is_within, found.reason
    assert (fast.report["conv_bn_folding"].done == ("0", "1")) != bool(
        fast.report["conv_bn_folding"].skipped
    )
    for key, value in fast.state_dict().items():
        assert value.equal(state[key]), key
