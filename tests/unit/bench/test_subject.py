"""What a contender's process makes of a model and its inputs."""

from __future__ import annotations

import pytest
import torch

from corestream.bench.subject import (
    NoBatchError,
    StockSubject,
    computed_in,
    fingerprint,
    fitting,
    sized,
)
from corestream.lowering.named_model import NamedModel
from corestream.measure.inputs import ModelInputs
from corestream.measure.process import MisuseError

OFFLINE = {"mode": "offline", "batch_size": None}
REALTIME = {"mode": "realtime", "batch_size": 1}


@pytest.mark.parametrize(
    ("present", "plan", "expected"),
    [
        (1, OFFLINE, 32),
        (8, OFFLINE, 8),
        (8, {**OFFLINE, "batch_size": 3}, 3),
        (8, REALTIME, 1),
    ],
)
def test_the_batch_of_a_mode(present, plan, expected):
    inputs = ModelInputs.of((torch.ones(present, 3), torch.ones(present)))
    assert sized(inputs, plan).batch_size() == expected


def test_inputs_without_a_batch_are_one_request():
    inputs = ModelInputs.of((torch.ones(2, 3), torch.ones(5)))
    assert sized(inputs, REALTIME) is inputs
    with pytest.raises(NoBatchError, match=r"got \[\(2, 3\), \(5,\)\]"):
        sized(inputs, OFFLINE)


def test_what_the_model_raises_is_the_inputs_fault():
    model, inputs = torch.nn.Linear(4, 2), ModelInputs.of(torch.ones(2, 3))
    with (
        pytest.raises(MisuseError, match=r"^inputs must fit the model; got \[\(2, 3\)\], and the"),
        fitting(inputs),
    ):
        inputs.call(model)


def test_weights_have_a_fingerprint():
    def named(seed: int) -> NamedModel:
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.BatchNorm1d(2)).bfloat16()
        return NamedModel("m", "module", model)

    assert fingerprint(named(1)) == fingerprint(named(1)) != fingerprint(named(2))
    assert fingerprint(NamedModel("f", "callable", len)) == 0
    assert computed_in(named(1), torch.ones(1)) == torch.bfloat16
    assert computed_in(NamedModel("f", "callable", len), [torch.float16]) == torch.float16


def test_stock_answers_without_gradients_from_users_and_threads():
    model = torch.nn.Linear(4, 2)
    seen = []

    def call(x):
        seen.append(torch.is_inference_mode_enabled())
        return model(x)

    subject = StockSubject(call, ModelInputs.of(torch.ones(1, 4)))
    assert subject.answers()[0].shape == (1, 2)
    assert subject.closed(users=2, seconds=1e-9, timeout_s=60).completed == 2
    opened = subject.open(rate_per_s=500, seconds=0.01, threads=2, seed=1, timeout_s=60)
    assert opened.failed == 0
    assert set(seen) == {True}
