"""What tests of layers of ours in traces have in common."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from corestream.lowering.own_layers import OwnLayers, count_reads
from corestream.lowering.timed_for import TimedFor
from corestream.measure import ModelInputs
from corestream.ops import has_kernels

JOINED = "corestream::joined_convolutions"
OURS, CHAIN = "corestream::convolution", "corestream::convolution_chain"


needs_kernel = pytest.mark.skipif(
    not has_kernels(torch.float32), reason="this CPU has no kernel of ours for float32"
)


def images(batch=2, channels=8):
    x = torch.randn(batch, channels, 9, 9)
    return x.contiguous(memory_format=torch.channels_last)


def norm(channels):
    """A norm with statistics that matter."""
    layer = nn.BatchNorm2d(channels)
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias, layer.running_mean):
            tensor.normal_()
        layer.running_var.uniform_(0.5, 2)
    return layer


class Model(nn.Module):
    """What `function(model, x)` does with the layers."""

    def __init__(self, function):
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm, self.other_norm = norm(8), norm(8)
        self.function = function
        self.eval().requires_grad_(False)

    def forward(self, x):
        return self.function(self, x)


def traced(model, x):
    """The graph's calls, and its result."""
    kinds, script = traced_script(model, x)
    return kinds, script(x)


def traced_script(model, x):
    inputs = ModelInputs((x,), {})
    reads = count_reads(model, inputs, timed_for=TimedFor(1))
    with torch.no_grad(), OwnLayers(model, reads, timed_for=TimedFor(1)):
        script = torch.jit.trace(model, (x,), check_trace=False, strict=False)
    script = torch.jit.freeze(script)
    kinds = [node.kind() for node in script.graph.nodes()]
    return [kind for kind in kinds if not kind.startswith("prim::")], script
