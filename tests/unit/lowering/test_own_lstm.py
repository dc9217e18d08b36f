"""Which LSTMs become ours in what is traced."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import corestream
from corestream.lowering.backend import LoweringRequest
from corestream.lowering.own_layers import may_have_own_layers
from corestream.lowering.torchscript import TorchScriptBackend
from corestream.lowering.tracing_warnings import warnings_as_notes
from corestream.measure import ModelInputs
from corestream.ops import has_kernels

OURS = "corestream::lstm_layer"
needs_kernel = pytest.mark.skipif(
    not has_kernels(torch.float32), reason="this CPU has no kernel of ours for float32"
)


class Model(nn.Module):
    def __init__(self, run=None, **options):
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(6, 20, **options)
        self.head = nn.Linear(6, 6)
        self.run = run or (lambda model, x: model.lstm(model.head(x))[0])
        self.eval().requires_grad_(False)

    def forward(self, x):
        return self.run(self, x)


def steps(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def lowered(model, x):
    request = LoweringRequest(
        model=model,
        inputs=ModelInputs((x,), {}),
        dtype=None,
        team_size=1,
        num_streams=1,
        batch_sizes=(x.shape[0],),
        dynamic_batch=True,
    )
    with warnings_as_notes():
        artifact = TorchScriptBackend(own_layers=True).build(request)
    return artifact, [node.kind() for node in artifact._script.graph.nodes()]


@needs_kernel
@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"batch_first": True}, 1),
        ({"num_layers": 3, "bias": False, "batch_first": True, "dropout": 0.5}, 3),
        ({"num_layers": 2, "bidirectional": True}, 4),
    ],
)
def test_layers_and_directions_are_ours_for_any_batch_and_length(options, calls):
    model = Model(**options)
    artifact, kinds = lowered(model, steps(4, 5, 6))
    assert kinds.count(OURS) == calls
    assert "aten::lstm" not in kinds
    for shape in ((4, 5, 6), (1, 9, 6), (7, 3, 6)):
        x = steps(*shape)
        torch.testing.assert_close(artifact.call((x,), {}), model(x), rtol=1e-4, atol=1e-5)


def last_and_state(model, x):
    return model.lstm(x)[1]


def given_state(model, x):
    state = x.new_ones(1, x.shape[1], 20)
    return model.lstm(x, (state, state * 0.5))[0]


def written_to_afterwards(model, x):
    out, (last, _) = model.lstm(x)
    return out.relu_() + last.mul_(2)[0]


def one_sequence(model, x):
    return model.lstm(x[:, 0])[0]


@needs_kernel
@pytest.mark.parametrize("run", [last_and_state, given_state, one_sequence, written_to_afterwards])
def test_states_are_given_and_returned(run):
    model, x = Model(run), steps(4, 5, 6)
    artifact, kinds = lowered(model, x)
    assert OURS in kinds
    expected = model(x)
    found = artifact.call((x,), {})
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def outputs_alone(model, x):
    return model.lstm(x)[0]


def packed_sequences(model, x):
    lengths = torch.tensor([5, 4, 2])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=False)
    return model.lstm(packed)[0].data


@needs_kernel
@pytest.mark.parametrize(
    ("run", "options", "dtype"),
    [
        (packed_sequences, {}, torch.float32),
        (outputs_alone, {"proj_size": 5}, torch.float32),
        (outputs_alone, {}, torch.float64),
    ],
    ids=["packed sequences", "projections", "a dtype without a kernel"],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_others_are_left_to_torch(run, options, dtype):
    model, x = Model(run, **options).to(dtype), steps(5, 3, 6).to(dtype)
    with pytest.raises(ValueError, match="got none that is called so"):
        lowered(model, x)


@needs_kernel
def test_weights_that_the_model_computes_are_left_to_torch():
    def run(model, x):
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        parameters = {name: getattr(model.lstm, name) * 1.0 for name in names}
        return torch.func.functional_call(model.lstm, parameters, (x,))[0]

    with pytest.raises(ValueError, match="got none that is called so"):
        lowered(Model(run), steps(5, 3, 6))


@needs_kernel
def test_streams_share_what_was_lowered(tmp_path):
    model, x = Model(num_layers=2, batch_first=True), steps(6, 5, 6)
    lowered_model = corestream.lower(
        model, x, backend="torchscript", num_streams=2, cache=tmp_path, progress=False
    )
    # torch's own checks, which a trace warns of, are called through ours.
    assert "Python boolean" not in str(lowered_model.report)
    module = corestream.MultiStreamModule(lowered_model, num_streams=2)
    for batch in (6, 3, 1):
        inputs = steps(batch, 5, 6)
        torch.testing.assert_close(module(inputs), model(inputs), rtol=1e-4, atol=1e-5)


@needs_kernel
def test_a_model_with_an_lstm_gets_the_candidate():
    assert may_have_own_layers(Model())
    assert not may_have_own_layers(Model(proj_size=5))
    assert not may_have_own_layers(nn.Sequential(nn.GRU(6, 6)))
