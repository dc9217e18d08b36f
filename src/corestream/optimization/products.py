"""How fast this CPU multiplies in another dtype: on a model's own largest products."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from corestream.measure.timing import compare_times
from corestream.nn import PackedLayer, packed_class

_ROWS = 64
_SIDE = 14  # of an image: small, since a dtype without kernels can be 100 times slower
_MOST_PRODUCTS = 3
_BUDGET_S = 0.3


def product_speedup(modules: Iterable[nn.Module], dtype: torch.dtype) -> float | None:
    """How many times as fast the largest products are in `dtype`; None if there are none."""
    layers: dict[tuple[int, ...], Any] = {}
    for module in modules:
        if isinstance(module, PackedLayer) or packed_class(type(module)) is not None:
            layers.setdefault(tuple(module.weight.shape), module)  # type: ignore[arg-type]
    largest = sorted(layers.values(), key=lambda layer: layer.weight.numel())[-_MOST_PRODUCTS:]
    times = [_times(layer, dtype) for layer in largest]
    return sum(own for own, _ in times) / sum(cast for _, cast in times) if times else None


def _times(layer: Any, dtype: torch.dtype) -> tuple[float, float]:
    """Seconds of one product in the layer's own dtype, and in `dtype`."""
    plain = layer.restore() if isinstance(layer, PackedLayer) else layer
    kind = packed_class(type(plain))
    if kind is None:
        raise TypeError(f"layer must be one that can be packed; got {layer!r}; report this")
    cast = kind.from_module(plain, dtype=dtype, exact_state=False)
    inputs = torch.ones(_input_size(plain), dtype=layer.weight.dtype)
    low = inputs.to(dtype)
    with torch.no_grad():
        calls = {"own": lambda: plain(inputs), "cast": lambda: cast(low)}
        timings = compare_times(calls, min_time_s=0.002, budget_s=_BUDGET_S)
    return timings["own"].median_s, timings["cast"].median_s


def _input_size(layer: Any) -> tuple[int, ...]:
    if isinstance(layer, nn.Linear):
        return (_ROWS, layer.in_features)
    fields = (d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True))
    return (1, layer.in_channels, *(max(_SIDE, field) for field in fields))
