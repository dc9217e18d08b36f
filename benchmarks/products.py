"""Layers of corestream's own against torch's and oneDNN's, in turns."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import computes_bf16
from benchmarks.measure import Effort, ratios, time_in_turns
from benchmarks.models import DTYPES
from benchmarks.report import Report, Row, Target
from corestream.ops import (
    ConvolutionShape,
    EmbeddingPart,
    JoinedPart,
    LSTMWeights,
    PackedConvolution,
    adaptive_avg_pool,
    convolution,
    convolution_chain,
    has_convolution_kernel,
    has_kernels,
    has_winograd_kernel,
    joined_convolutions,
    joined_embeddings,
    linear,
    lstm_layer,
    max_pool,
    multiply_transposed,
    pack_convolution,
    pack_linear,
    pack_winograd,
)

NAME = "products"
TITLE = "torch's and oneDNN's layers over those of corestream.ops"

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
# Batch, input channels, size, output channels, kernel, tile: ResNet-50, SqueezeNet and AlexNet.
WINOGRADS = (
    (1, 64, 56, 64, 3, 6),
    (1, 256, 14, 256, 3, 4),
    (1, 256, 14, 256, 3, 6),
    (1, 512, 7, 512, 3, 4),
    (1, 512, 7, 512, 3, 6),
    (8, 64, 56, 64, 3, 6),
    (8, 256, 14, 256, 3, 6),
    (8, 512, 7, 512, 3, 6),
    (8, 16, 55, 64, 3, 6),
    (8, 64, 27, 192, 5, 6),
)
# Batch, channels, size, kernel, stride, padding: GoogLeNet and VGG-16.
POOLS = ((8, 64, 112, 3, 2, 1), (8, 192, 28, 3, 1, 1), (1, 192, 28, 3, 1, 1), (8, 512, 14, 2, 2, 0))
# Batch, rows, columns, depth: DLRM.
BATCHES = ((1, 27, 27, 64), (256, 27, 27, 64))
# Batch, tables, rows, width: DLRM.
TABLES = ((1, 26, 20000, 64), (256, 26, 20000, 64))
# Batch, input channels, size, output channels of each: SqueezeNet.
JOINS = ((1, 16, 55, 64), (8, 16, 55, 64), (8, 64, 13, 256))
# Batch, size, channels of the image, in between and of the output, stride: MobileNetV2's first.
BLOCKS = ((1, 112, 16, 96, 24, 2), (8, 112, 16, 96, 24, 2), (8, 56, 24, 144, 24, 1))
# Batch, steps, features, hidden units: LSTM.
LSTMS = ((1, 64, 256, 512), (8, 64, 256, 512))
# Batch, channels, size: MobileNetV2 and SqueezeNet.
MEANS = ((1, 1280, 7), (8, 1000, 13))

_Call = Callable[[], object]


_Note = Callable[[float], str]


def _row(
    name: str,
    calls: dict[str, _Call],
    *,
    note: _Note,
    has_kernel: bool,
    effort: Effort,
    over: str = "oneDNN",
    ours: str = "ours",
) -> Row:
    """How many times as fast `ours` is as the other; `note` says what seconds mean."""
    turns = time_in_turns(calls, effort=effort)
    notes = {name: note(statistics.median(taken)) for name, taken in turns.items()}
    target = Target(at_least=0.9) if has_kernel else None
    return Row(name, ratios(turns[over], turns[ours]), "×", target, notes)


def _rate(flops: float) -> _Note:
    return lambda seconds: f"{flops / seconds / 1e9:.0f} GFLOP/s"


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
    has_kernel = has_kernels(DTYPES[dtype])
    flops = 2.0 * rows * features * outputs
    return _row(name, calls, note=_rate(flops), has_kernel=has_kernel, effort=effort)


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
    return _row(name, calls, note=_rate(flops), has_kernel=has_kernel, effort=effort)


def _pool(shape: tuple[int, ...], *, dtype: str, effort: Effort) -> Row:
    batch, channels, size, kernel, stride, pad = shape
    x = _channels_last(torch.randn(batch, channels, size, size), dtype)
    window = {"stride": (stride, stride), "padding": (pad, pad)}
    calls: dict[str, _Call] = {
        "torch": lambda: torch.nn.functional.max_pool2d(x, kernel, stride, pad),
        "ours": lambda: max_pool(x, (kernel, kernel), **window),
    }
    moved = x.nbytes * (1 + 1 / stride**2)
    name = f"{dtype} max pool {batch} × {channels} × {size}², {kernel} × {kernel}, stride {stride}"
    return _row(
        name,
        calls,
        note=lambda seconds: f"{moved / seconds / 1e9:.1f} GB/s",
        has_kernel=has_kernels(DTYPES[dtype]),
        effort=effort,
        over="torch",
    )


def _mean(shape: tuple[int, ...], *, dtype: str, effort: Effort) -> Row:
    batch, channels, size = shape
    x = _channels_last(torch.randn(batch, channels, size, size), dtype)
    calls: dict[str, _Call] = {
        "torch": lambda: torch.nn.functional.adaptive_avg_pool2d(x, 1),
        "ours": lambda: adaptive_avg_pool(x, (1, 1)),
    }
    return _row(
        f"{dtype} mean {batch} × {channels} × {size}²",
        calls,
        note=_microseconds,
        has_kernel=has_kernels(DTYPES[dtype]),
        effort=effort,
        over="torch",
    )


def _product(shape: tuple[int, ...], *, dtype: str, effort: Effort) -> Row:
    batch, rows, columns, depth = shape
    left = torch.randn(batch, rows, depth).to(DTYPES[dtype])
    right = torch.randn(batch, columns, depth).to(DTYPES[dtype])
    calls: dict[str, _Call] = {
        "torch": lambda: torch.bmm(left, right.transpose(1, 2)),
        "ours": lambda: multiply_transposed(left, right),
    }
    name = f"{dtype} product {batch} × {rows} × {depth} × {columns}"
    flops = 2.0 * batch * rows * columns * depth
    has_kernel = has_kernels(DTYPES[dtype])
    return _row(name, calls, note=_rate(flops), has_kernel=has_kernel, effort=effort, over="torch")


def _join(shape: tuple[int, ...], *, dtype: str, effort: Effort) -> Row:
    """Two convolutions and their concatenation, each by a call of ours and all by one."""
    batch, channels, size, outputs = shape
    x = _channels_last(torch.randn(batch, channels, size, size), dtype)
    layers = [_layer((outputs, channels, kernel, kernel), dtype=dtype) for kernel in (1, 3)]
    parts = [JoinedPart(input=x, convolution=each) for each in layers]
    calls: dict[str, _Call] = {
        "apart": lambda: torch.cat([_convolve(x, each) for each in layers], 1),
        "joined": lambda: joined_convolutions(parts),
    }
    return _row(
        f"{dtype} join {batch} × {channels} × {size}² → 2 × {outputs}",
        calls,
        note=_microseconds,
        has_kernel=has_kernels(DTYPES[dtype]),
        effort=effort,
        over="apart",
        ours="joined",
    )


def _chain(shape: tuple[int, ...], *, dtype: str, effort: Effort) -> Row:
    """A 1 x 1, a depthwise and a 1 x 1 convolution, each by a call of ours and all by one."""
    batch, size, channels, between, outputs, stride = shape
    x = _channels_last(torch.randn(batch, channels, size, size), dtype)
    layers = [
        _layer((between, channels, 1, 1), dtype=dtype),
        _layer((between, 1, 3, 3), dtype=dtype, stride=stride),
        _layer((outputs, between, 1, 1), dtype=dtype),
    ]
    calls: dict[str, _Call] = {
        "apart": lambda: functools.reduce(_convolve, layers, x),
        "chain": lambda: convolution_chain(x, layers),
    }
    return _row(
        f"{dtype} chain {batch} × {channels} × {size}² → {between} → {outputs}, stride {stride}",
        calls,
        note=_microseconds,
        has_kernel=has_kernels(DTYPES[dtype]),
        effort=effort,
        over="apart",
        ours="chain",
    )


def _winograd(shape: tuple[int, ...], *, dtype: str, effort: Effort) -> Row:
    """A convolution by the direct kernel, and by Winograd's algorithm."""
    batch, channels, size, outputs, kernel, tile = shape
    x = _channels_last(torch.randn(batch, channels, size, size), dtype)
    weight = _channels_last(torch.randn(outputs, channels, kernel, kernel), dtype)
    direct = _layer(tuple(weight.shape), dtype=dtype)
    ours = replace(direct, packed=pack_winograd(weight, tile=tile))
    calls: dict[str, _Call] = {
        "direct": lambda: _convolve(x, direct),
        "Winograd": lambda: _convolve(x, ours),
    }
    flops = 2.0 * batch * size**2 * outputs * channels * kernel**2
    return _row(
        f"{dtype} {kernel} × {kernel} {batch} × {channels} × {size}² → {outputs}, tiles of {tile}",
        calls,
        note=_rate(flops),
        has_kernel=has_winograd_kernel(DTYPES[dtype], direct.shape),
        effort=effort,
        over="direct",
        ours="Winograd",
    )


def _layer(size: tuple[int, ...], *, dtype: str, stride: int = 1) -> PackedConvolution:
    """With a ReLU6; depthwise where it reads one channel."""
    groups = size[0] if size[1] == 1 else 1
    padding = size[2] // 2
    shape = ConvolutionShape(
        size, stride=(stride, stride), padding=(padding, padding), groups=groups
    )
    packed = pack_convolution(_channels_last(torch.randn(size), dtype), groups)
    return PackedConvolution(packed=packed, shape=shape, low=0.0, high=6.0)


def _convolve(x: Tensor, layer: PackedConvolution) -> Tensor:
    return convolution(x, layer.packed, shape=layer.shape, low=layer.low, high=layer.high)


def _embeddings(shape: tuple[int, ...], *, dtype: str, effort: Effort) -> Row:
    """Rows of many tables and their stack, table by table and all by one call."""
    batch, count, rows, width = shape
    tables = [torch.randn(rows, width).to(DTYPES[dtype]) for _ in range(count)]
    indices = torch.randint(0, rows, (batch, count))
    columns = list(indices.unbind(1))
    parts = [
        EmbeddingPart(index=index, table=table)
        for index, table in zip(columns, tables, strict=True)
    ]
    calls: dict[str, _Call] = {
        "torch": lambda: torch.stack(
            [
                torch.nn.functional.embedding(index, table)
                for index, table in zip(columns, tables, strict=True)
            ],
            1,
        ),
        "ours": lambda: joined_embeddings(parts),
    }
    name = f"{dtype} {count} embeddings of {batch} × {width}"
    return _row(name, calls, note=_microseconds, has_kernel=True, effort=effort, over="torch")


def _lstm(shape: tuple[int, ...], *, dtype: str, effort: Effort) -> Row:
    batch, steps, features, hidden = shape
    layer = nn.LSTM(features, hidden, batch_first=True, dtype=DTYPES[dtype])
    weights = LSTMWeights.of(
        layer.weight_ih_l0,
        layer.weight_hh_l0,
        bias_ih=layer.bias_ih_l0,
        bias_hh=layer.bias_hh_l0,
    )
    x = torch.randn(batch, steps, features).to(DTYPES[dtype])
    zeros = torch.zeros(batch, hidden, dtype=x.dtype)
    calls: dict[str, _Call] = {
        "oneDNN": lambda: layer(x),
        "ours": lambda: lstm_layer(x, weights, h0=zeros, c0=zeros, batch_first=True),
    }
    name = f"{dtype} LSTM {batch} × {steps} × {features} → {hidden}"
    flops = 8.0 * batch * steps * hidden * (features + hidden)
    has_kernel = has_kernels(DTYPES[dtype])
    return _row(name, calls, note=_rate(flops), has_kernel=has_kernel, effort=effort)


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us"


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
    return _row("a call", calls, note=_microseconds, has_kernel=False, effort=effort)


def _onednn() -> Any:
    return torch.ops.mkldnn


def _channels_last(image: Tensor, dtype: str) -> Tensor:
    return image.to(DTYPES[dtype]).contiguous(memory_format=torch.channels_last)


_LAYERS = (
    (_linear, LINEAR),
    (_convolution, CONVOLUTIONS),
    (_winograd, WINOGRADS),
    (_pool, POOLS),
    (_mean, MEANS),
    (_join, JOINS),
    (_chain, BLOCKS),
    (_product, BATCHES),
    (_embeddings, TABLES),
    (_lstm, LSTMS),
)


def run(effort: Effort) -> Report:
    # Without instructions for bf16, oneDNN does not take it.
    dtypes = ("fp32", "bf16") if computes_bf16() else ("fp32",)
    with torch.inference_mode():
        rows = [
            measure(shape, dtype=dtype, effort=effort)  # type: ignore[operator]
            for dtype in dtypes
            for measure, shapes in _LAYERS
            for shape in shapes
            # It is of fp32 alone.
            if dtype == "fp32" or measure is not _winograd
        ]
        rows.append(_calls(effort))
    threads = f"{torch.get_num_threads()} threads."
    return Report(NAME, TITLE, rows, [threads, "Rows without a target: no kernel of ours here."])
