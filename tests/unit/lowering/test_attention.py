from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import corestream
from corestream.lowering import attention as attention_module
from corestream.lowering.attention import own_attention
from corestream.measure import ModelInputs
from corestream.ops import has_attention_kernel

INPUTS = ModelInputs((torch.randn(4, 10, 64),), {})


class SelfAttention(nn.Module):
    """Two heads of 32, with a mask that leaves out the last keys."""

    def __init__(self, **options):
        super().__init__()
        self.project = nn.Linear(64, 192)
        self.options = options

    def forward(self, x):
        parts = self.project(x).view(x.shape[0], -1, 3, 2, 32).permute(2, 0, 3, 1, 4)
        mask = torch.arange(10).expand(x.shape[0], 1, 10, 10) < 8
        options = {} if self.options.get("is_causal") else {"attn_mask": mask}
        return scaled_dot_product_attention(*parts, **options, **self.options).flatten(2)


@pytest.fixture
def decided(monkeypatch):
    """What would be measured: whether our kernel is faster, and which shapes were asked about."""
    asked = []

    def decide(answer):
        def is_faster(shape):
            asked.append(shape)
            return answer

        monkeypatch.setattr(attention_module._Shape, "our_kernel_is_faster", is_faster)
        monkeypatch.setattr(attention_module, "has_attention_kernel", lambda *_, **__: True)
        return asked

    return decide


def calls_in(model):
    """How often the exported model calls torch's operator, and how often ours."""
    with torch.no_grad(), own_attention(model, INPUTS):
        graph = torch.export.export(model, INPUTS.args).graph
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


def test_measuring_gives_an_answer():
    shape = attention_module._Shape(torch.float32, 2, 10, 10, 32)
    assert shape.our_kernel_is_faster() in (True, False)


@pytest.mark.parametrize("backend", ["aotinductor", "torchscript"])
def test_a_lowered_model_with_it_is_right_and_can_be_saved(decided, backend, tmp_path):
    decided(has_attention_kernel(torch.float32, head_size=32, num_keys=10))
    model = SelfAttention().eval()
    lowered = corestream.lower(model, *INPUTS.args, backend=backend, cache=False)
    lowered.save(tmp_path / "model.pt2")
    loaded = corestream.load(tmp_path / "model.pt2")
    for batch in (1, 3, 4, 7):
        x = torch.randn(batch, 10, 64)
        with torch.no_grad():
            expected = model(x)
        torch.testing.assert_close(lowered(x), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(loaded(x), expected, rtol=1e-4, atol=1e-5)
