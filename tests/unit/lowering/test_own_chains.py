from __future__ import annotations

import pytest
import torch
from torch import nn

from corestream.lowering import own_calls as own_calls_module
from tests.unit.lowering.traced_layers import (
    CHAIN,
    JOINED,
    OURS,
    Model,
    images,
    needs_kernel,
    traced,
    traced_script,
)


def separable(m, x):
    out = torch.relu(m.norm(m.second(x)))
    out = nn.functional.relu6(m.other_norm(m.depthwise(out)))
    return torch.relu(m.first(out) + x)


def separable_twice(m, x):
    out = m.first(torch.relu(m.depthwise(m.first(x))))
    return m.depthwise(out.clamp(max=0.5))


def read_in_the_middle(m, x):
    out = m.first(x)
    return m.first(m.depthwise(out)) + out


def sum_in_the_middle(m, x):
    return m.depthwise(m.first(x) + x)


def joined_at_the_end(m, x):
    return torch.cat([torch.relu(m.first(m.depthwise(x))), x], 1)


def strided(m, x):
    return nn.functional.conv2d(m.depthwise(x), m.first.weight, stride=2)


@needs_kernel
@pytest.mark.parametrize(
    ("function", "calls"),
    [
        (separable, [CHAIN]),
        (separable_twice, [CHAIN]),
        (read_in_the_middle, [OURS, CHAIN]),
        (sum_in_the_middle, [OURS, OURS]),
        (joined_at_the_end, [OURS, JOINED]),
        (strided, [OURS, OURS]),
    ],
)
def test_convolutions_that_can_be_computed_row_by_row_are_one_call(function, calls):
    model, x = Model(function), images()
    kinds, script = traced_script(model, x)
    assert kinds == calls
    for other in (x, torch.randn(3, 8, 12, 6)):
        torch.testing.assert_close(script(other), model(other), rtol=1e-4, atol=1e-5)


def is_an_output_in_the_middle(m, x):
    out = torch.relu(m.first(x))
    return torch.cat([m.first(m.depthwise(out)), out], 1)


def written_to_in_the_middle(m, x):
    return m.first(m.depthwise(torch.relu_(m.first(x))).clamp_(max=0.5))


@needs_kernel
@pytest.mark.parametrize(
    ("function", "calls"),
    [
        (is_an_output_in_the_middle, [OURS, OURS, JOINED]),
        (written_to_in_the_middle, [CHAIN]),
    ],
)
def test_what_is_wanted_or_written_in_the_middle_of_a_chain_is_right(function, calls):
    model, x = Model(function), images()
    kinds, actual = traced(model, x)
    assert kinds == calls
    torch.testing.assert_close(actual, model(x), rtol=1e-4, atol=1e-5)


@needs_kernel
def test_a_chain_is_traced_once(monkeypatch):
    """Not once for each link, norm and limit, from its beginning."""
    lengths = []
    real = own_calls_module.convolution_chain

    def counted(x, layers, **options):
        lengths.append(len(layers))
        return real(x, layers, **options)

    monkeypatch.setattr(own_calls_module, "convolution_chain", counted)
    kinds, _ = traced(Model(separable_twice), images())
    assert kinds == [CHAIN]
    assert lengths == [4]


def written_to_before_it_ends(m, x):
    own = x * 1
    out = m.first(own)
    own.add_(1)
    return m.depthwise(out) + own


@needs_kernel
def test_a_chain_reads_its_image_as_it_was():
    model, x = Model(written_to_before_it_ends), images()
    kinds, actual = traced(model, x)
    assert CHAIN not in kinds
    torch.testing.assert_close(actual, model(x), rtol=1e-4, atol=1e-5)
