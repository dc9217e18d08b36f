"""Linear layers and convolutions of corestream's own against torch's and oneDNN's, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import computes_bf16
from benchmarks.measure import Effort, ratios, time_in_turns
from benchmarks.models import DTYPES
from benchmarks.report import Report, Row, Target
from corestream.ops import (
    ConvolutionShape,
    convolution,
    has_convolution_kernel,
    has_linear_kernel,
    linear,
    pack_convolution,
    pack_linear,
)

NAME = "products"
TITLE = "oneDNN with packed weights, as torch calls it, over corestream.ops"

# Rows, input and output features: MiniLM, BERT-base, DLRM.
LINEAR = ((32, 384, 384), (32, 384, 1536), (128, 768, 3072), (512, 768, 3072), (256, 512, 256))
# Batch, input channels, size, output channels, kernel, stride, groups: MobileNetV2 and ResNet-50.
CONVOLUTIONS = (
    (1, 3, 224, 32, 3, 2, 1),
    (1, 24, 56, 144, 1, 1, 1),
    (1, 144, 56, 144, 3, 1, 144),
    (1, 384, 14, 64, 1, 1, 1),
    (1, 960, 7, 960, 3, 1, 960),
    (1, 256, 14, 256, 3, 1, 1),
    (8, 144, 56, 144, 3, 1, 144),
    (8, 64, 56, 256, 1, 1, 1),
    (8, 256, 14, 256, 3, 1, 1),
)

_Call = Callable[[], object]


def _row(
    name: str, calls: dict[str, _Call], *, flops: float, has_kernel: bool, effort: Effort
) -> Row:
    turns = time_in_turns(calls, effort=effort)
    notes = {
        name: f"{flops / statistics.median(taken) / 1e9:.0f} GFLOP/s"
        for name, taken in turns.items()
    }
    target = Target(at_least=0.9) if has_kernel else None
    return Row(name, ratios(turns["oneDNN"], turns["ours"]), "×", target, notes)


def _linear(shape: tuple[int, int, int], *, dtype: str, effort: Effort) -> Row:
    rows, features, outputs = shape
    x = torch.randn(rows, features).to(DTYPES[dtype])
    weight = torch.randn(outputs, features).to(DTYPES[dtype])
    ours, onednn = pack_linear(weight), _onednn()
    theirs = onednn._reorder_linear_weight(weight, rows)
    calls: dict[str, _Call] = {
        "torch": lambda: torch.nn.functional.linear(x, weight),
        "oneDNN": lambda: onednn._linear_pointwise(x, theirs, None, "none", [], ""),
        "ours": lambda: linear(x, ours, out_features=outputs),
    }
    name = f"{dtype} linear {rows} × {features} → {outputs}"
    has_kernel = has_linear_kernel(DTYPES[dtype])
    flops = 2.0 * rows * features * outputs
    return _row(name, calls, flops=flops, has_kernel=has_kernel, effort=effort)


def _convolution(shape: tuple[int, ...], *, dtype: str, effort: Effort) -> Row:
    batch, channels, size, outputs, kernel, stride, groups = shape
    pad = kernel // 2
    sizes = (outputs, channels // groups, kernel, kernel)
    geometry = ConvolutionShape(sizes, stride=(stride, stride), padding=(pad, pad), groups=groups)
    x = _channels_last(torch.randn(batch, channels, size, size), dtype)
    weight = _channels_last(torch.randn(sizes), dtype)
    bias = torch.randn(outputs)
    ours, onednn = pack_convolution(weight, groups), _onednn()
    options = [pad, pad], [stride, stride], [1, 1], groups
    theirs = onednn._reorder_convolution_weight(weight, *options, list(x.shape))
    cast = bias.to(DTYPES[dtype])
    calls: dict[str, _Call] = {
        "oneDNN": lambda: onednn._convolution_pointwise(x, theirs, cast, *options, "relu", [], ""),
        "ours": lambda: convolution(x, ours, shape=geometry, bias=bias, low=0.0),
    }
    kind = "depthwise" if groups > 1 else f"{kernel} × {kernel}"
    name = f"{dtype} {kind} {batch} × {channels} × {size}² → {outputs}, stride {stride}"
    pixels = ((size + 2 * pad - kernel) // stride + 1) ** 2
    flops = 2.0 * batch * pixels * outputs * channels // groups * kernel**2
    has_kernel = has_convolution_kernel(DTYPES[dtype], geometry)
    return _row(name, calls, flops=flops, has_kernel=has_kernel, effort=effort)


def _calls(effort: Effort) -> Row:
    """What a convolution costs beside its work: of one pixel, from Python."""
    x = torch.randn(1, 16, 1, 1).contiguous(memory_format=torch.channels_last)
    weight = torch.eye(16)[:, :, None, None]
    shape, ours = ConvolutionShape((16, 16, 1, 1)), pack_convolution(weight)
    options = [0, 0], [1, 1], [1, 1], 1  # padding, stride, dilation, groups
    theirs = _onednn()._reorder_convolution_weight(weight, *options, list(x.shape))
    calls: dict[str, _Call] = {
        "oneDNN": lambda: _onednn()._convolution_pointwise(
            x, theirs, None, *options, "relu", [], ""
        ),
        "ours": lambda: convolution(x, ours, shape=shape, low=0.0),
    }
    turns = time_in_turns(calls, effort=effort)
    notes = {name: f"{statistics.median(taken) * 1e6:.1f} us" for name, taken in turns.items()}
    return Row("a call", ratios(turns["oneDNN"], turns["ours"]), "×", None, notes)


def _onednn() -> Any:
    return torch.ops.mkldnn


def _channels_last(image: Tensor, dtype: str) -> Tensor:
    return image.to(DTYPES[dtype]).contiguous(memory_format=torch.channels_last)


def run(effort: Effort) -> Report:
    # Without instructions for bf16, oneDNN does not take it.
    dtypes = ("fp32", "bf16") if computes_bf16() else ("fp32",)
    with torch.inference_mode():
        rows = [
            measure(shape, dtype=dtype, effort=effort)  # type: ignore[operator]
            for dtype in dtypes
            for measure, shapes in ((_linear, LINEAR), (_convolution, CONVOLUTIONS))
            for shape in shapes
        ]
        rows.append(_calls(effort))
    threads = f"{torch.get_num_threads()} threads."
    return Report(NAME, TITLE, rows, [threads, "Rows without a target: no kernel of ours here."])
