from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

import corestream
from corestream.lowering import attention as attention_module
from corestream.lowering.own_operators import own_operators
from corestream.measure import ModelInputs
from corestream.ops import has_attention_kernel

INPUTS = ModelInputs((torch.randn(4, 10, 64),), {})
DYNAMIC = torch.export.Dim("batch")


class SelfAttention(nn.Module):
    """Two heads of 32, with a mask that leaves out the last keys."""

    def __init__(self, **options):
        super().__init__()
        self.project = nn.Linear(64, 192)
        self.options = options

    def forward(self, x):
        parts = self.project(x).view(x.shape[0], -1, 3, 2, 32).permute(2, 0, 3, 1, 4)
        if "attn_mask" in self.options:
            return scaled_dot_product_attention(*parts, **self.options).flatten(2)
        mask = torch.arange(10).expand(x.shape[0], 1, 10, 10) < 8
        options = {} if self.options.get("is_causal") else {"attn_mask": mask}
        return scaled_dot_product_attention(*parts, **options, **self.options).flatten(2)


@pytest.fixture
def decided(monkeypatch):
    """What would be measured: whether our kernel is faster, and which shapes were asked about."""
    asked = []

    def decide(answer):
        def is_faster(shape, team_size):
            asked.append(shape)
            return answer

        monkeypatch.setattr(attention_module._Shape, "our_kernel_is_faster", is_faster)
        monkeypatch.setattr(attention_module, "has_attention_kernel", lambda *_, **__: True)
        return asked

    return decide


class MultiHead(nn.Module):
    """What most models of torch itself are made of."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 2, batch_first=True)

    def forward(self, x):
        mask = torch.arange(10).expand(x.shape[0], 10) >= 8
        return self.attention(x, x, x, key_padding_mask=mask, need_weights=False)[0]


class SharedKeys(nn.Module):
    """Keys of one item for all: torch repeats them, our operator does not."""

    def forward(self, x):
        heads = x.view(x.shape[0], -1, 2, 32).transpose(1, 2)
        return scaled_dot_product_attention(heads, heads[:1], heads[:1])


class UnderAutocast(SelfAttention):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


def calls_in(model):
    """How often the exported model calls torch's operator, and how often ours."""
    with torch.no_grad(), own_operators(model, INPUTS, team_size=1):
        program = torch.export.export(model, INPUTS.args, dynamic_shapes=({0: DYNAMIC},))
    graph = program.run_decompositions({}).graph
    names = [str(node.target) for node in graph.nodes]
    return [
        names.count(f"{name}.default")
        for name in ("aten.scaled_dot_product_attention", "corestream.attention")
    ]


@pytest.mark.parametrize(("answer", "calls"), [(True, [0, 1]), (False, [1, 0])])
def test_the_faster_kernel_is_called(decided, answer, calls):
    asked = decided(answer)
    assert calls_in(SelfAttention().eval()) == calls
    (shape,) = asked
    assert (shape.heads, shape.queries, shape.keys, shape.head_size) == (2, 10, 10, 32)


@pytest.mark.parametrize("options", [{"is_causal": True}, {"dropout_p": 0.5}])
def test_what_our_kernel_does_not_do_is_torchs(decided, options):
    asked = decided(True)
    assert calls_in(SelfAttention(**options).eval()) == [1, 0]
    assert asked == []


def test_nor_is_what_it_would_do_otherwise(decided):
    asked = decided(True)
    assert calls_in(SharedKeys().eval()) == [1, 0]
    in_bf16 = SelfAttention(attn_mask=torch.zeros(10, 10)).bfloat16().eval()
    own_operators(in_bf16, INPUTS.map(Tensor.bfloat16), team_size=1)
    assert asked == []


def test_modules_of_torch_have_it_too(decided):
    asked = decided(True)
    assert calls_in(MultiHead().eval()) == [0, 1]
    (shape,) = asked
    assert (shape.heads, shape.queries, shape.keys, shape.head_size) == (2, 10, 10, 32)
    model = nn.TransformerEncoderLayer(64, 2, batch_first=True, norm_first=True)
    assert calls_in(model.eval()) == [0, 1]


def test_a_trace_without_it_is_as_torch_would_have_it(decided):
    decided(False)
    model = MultiHead().eval().requires_grad_(False)
    with torch.no_grad(), own_operators(model, INPUTS, team_size=1):
        traced = torch.jit.trace(model, INPUTS.args, check_trace=False)
    assert "_native_multi_head_attention" in str(traced.inlined_graph)


def test_autocast_decides_what_is_measured(decided):
    asked = decided(True)
    model = UnderAutocast().eval()
    with torch.no_grad(), own_operators(model, INPUTS, team_size=1):
        assert model(*INPUTS.args).dtype == torch.bfloat16
    assert [shape.dtype for shape in asked] == [torch.bfloat16]


def test_measuring_gives_an_answer():
    shape = attention_module._Shape(torch.float32, 2, 10, 10, 32)
    assert shape.our_kernel_is_faster(1) in (True, False)


FRESH_PROCESS = """
import sys, torch, corestream
model = corestream.load(sys.argv[1])
x = torch.load(sys.argv[2])
torch.save([model(x), corestream.MultiStreamModule(model, 1)(x)], sys.argv[2])
"""


@pytest.mark.parametrize("backend", ["aotinductor", "torchscript"])
@pytest.mark.parametrize("kind", [SelfAttention, MultiHead])
def test_a_lowered_model_with_it_is_right_and_can_be_saved(decided, backend, kind, tmp_path):
    decided(has_attention_kernel(torch.float32, head_size=32, num_keys=10))
    model = kind().eval()
    lowered = corestream.lower(model, *INPUTS.args, backend=backend, cache=False)
    lowered.save(tmp_path / "model.pt2")
    loaded = corestream.load(tmp_path / "model.pt2")
    for batch in (1, 3, 4, 7):
        x = torch.randn(batch, 10, 64)
        with torch.no_grad():
            expected = model(x)
        torch.testing.assert_close(lowered(x), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(loaded(x), expected, rtol=1e-4, atol=1e-5)
    torch.save(x, tmp_path / "tensors")
    program = [sys.executable, "-W", "ignore", "-c", FRESH_PROCESS]
    subprocess.run([*program, tmp_path / "model.pt2", tmp_path / "tensors"], check=True)
    for result in torch.load(tmp_path / "tensors"):
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
