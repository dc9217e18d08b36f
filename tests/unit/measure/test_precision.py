from __future__ import annotations

import pytest
import torch

from corestream.measure import ModelInputs, default_tolerance, tolerance_in


class Cancelling(torch.nn.Module):
    """Its products are rounded to bf16 while they are large, and leave little."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        torch.nn.init.constant_(self.linear.bias, 100.0)

    def forward(self, x):
        return {"y": self.linear(x) - 100}


@pytest.fixture
def inputs():
    return ModelInputs((torch.randn(8, 4, generator=torch.Generator().manual_seed(0)),), {})


def test_a_model_that_rounding_hurts_gets_a_wider_limit(inputs):
    model = Cancelling().eval()
    with torch.no_grad():
        expected = inputs.call(model)
        with torch.autocast("cpu", torch.bfloat16):
            lost = inputs.call(model)["y"].float() - expected["y"]
    limit = tolerance_in(model, inputs, expected=expected, dtype=torch.bfloat16)
    scale = expected["y"].square().mean().sqrt() + expected["y"].abs()
    assert limit == pytest.approx(1.5 * float((lost.abs() / scale).max()), rel=1e-4)
    assert limit > default_tolerance(torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.float32])
def test_others_keep_that_of_the_dtype(inputs, dtype):
    model = torch.nn.Linear(4, 4).eval()
    with torch.no_grad():
        expected = inputs.call(model)
    limit = tolerance_in(model, inputs, expected=expected, dtype=dtype)
    assert limit == default_tolerance(dtype)


class Drowning(torch.nn.Module):
    """What it says is less than what bf16 makes of its bias."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        torch.nn.init.constant_(self.linear.bias, 100.3)
        torch.nn.init.constant_(self.linear.weight, 1e-3)

    def forward(self, x):
        return self.linear(x) - self.linear.bias


def test_a_limit_that_any_output_would_meet_is_none(inputs):
    model = Drowning().eval()
    with torch.no_grad():
        expected = inputs.call(model)
    assert tolerance_in(model, inputs, expected=expected, dtype=torch.bfloat16) == 1.0


class NoAutocast(torch.nn.Module):
    def forward(self, x):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("Index put requires the source and destination dtypes match")
        return x


def test_a_model_that_autocast_breaks_has_the_limit_of_the_dtype(inputs):
    limit = tolerance_in(NoAutocast(), inputs, expected=inputs.args[0], dtype=torch.bfloat16)
    assert limit == default_tolerance(torch.bfloat16)


def test_a_model_that_is_broken_in_the_dtype_gets_no_limit_of_its_own(inputs):
    model = torch.nn.Linear(4, 4).eval()
    expected = torch.full((8, 4), torch.nan)
    limit = tolerance_in(model, inputs, expected=expected, dtype=torch.bfloat16)
    assert limit == default_tolerance(torch.bfloat16)


class Cancels(torch.nn.Module):
    """Loses digits in float32: what is left of two large numbers."""

    def forward(self, x):
        return (x * 1000 + 1 / 3) - x * 1000


def test_a_model_that_loses_digits_in_float32_may_be_as_far_off():
    inputs = ModelInputs((torch.linspace(1, 2, 50),), {})
    expected = Cancels()(*inputs.args)
    limit = tolerance_in(Cancels(), inputs, expected=expected, dtype=torch.float32)
    assert 1e-4 < limit <= 0.01
    plain = tolerance_in(torch.nn.ReLU(), inputs, expected=inputs.args[0], dtype=torch.float32)
    assert plain == default_tolerance(torch.float32)
