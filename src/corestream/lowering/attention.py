"""Attention by corestream's own kernel in what is traced or exported, where that is faster.

torch's fused attention multiplies with MKL, also in bf16, at a quarter to a half of what AVX-512
can do on CPUs that MKL does not know: 0.07 of 0.3 TFLOP/s on a Zen 5 core in bf16, 0.08 of 0.2 in
fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from corestream.measure.inputs import ModelInputs
from corestream.measure.timing import compare_times
from corestream.ops.attention import attention, has_attention_kernel

_ROUNDS = 50
_BUDGET_S = 0.5
_MARGIN = 0.95


@dataclass(frozen=True)
class _Shape:
    """What decides which kernel is faster, for one item of the batch."""

    dtype: torch.dtype
    heads: int
    queries: int
    keys: int
    head_size: int

    @classmethod
    def of(cls, query: Tensor, key: Tensor) -> Self | None:
        """None where a size is open, or there is no kernel of ours."""
        if query.dim() != 4 or key.dim() != 4:
            return None
        sizes = *query.shape[1:3], *key.shape[2:4]
        if not all(isinstance(size, int) for size in sizes):
            return None
        shape = cls(query.dtype, *sizes)
        has_kernel = has_attention_kernel(
            query.dtype, head_size=shape.head_size, num_keys=shape.keys
        )
        return shape if has_kernel else None

    def our_kernel_is_faster(self) -> bool:
        """As measured on the calling thread, for one item."""
        query, key, value = (
            torch.randn(1, rows, self.heads, self.head_size).to(self.dtype).transpose(1, 2)
            for rows in (self.queries, self.keys, self.keys)
        )
        timings = compare_times(
            {
                "ours": lambda: attention(query, key, value),
                "torch": lambda: nn.functional.scaled_dot_product_attention(query, key, value),
            },
            rounds=_ROUNDS,
            min_time_s=0.0,
            budget_s=_BUDGET_S,
        )
        # Not medians: a machine that compiles beside this leaves few calls alone.
        ours, torchs = (min(timings[name].samples_s) for name in ("ours", "torch"))
        return ours < _MARGIN * torchs


@dataclass(frozen=True)
class _Call:
    """The arguments of `scaled_dot_product_attention`."""

    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    def shape(self) -> _Shape | None:
        """None for what our kernel does not do."""
        if self.dropout_p or self.is_causal or self.enable_gqa:
            return None
        with _not_traced():
            query, key, value = self.query, self.key, self.value
            if key.dim() != 4 or key.shape != value.shape or query.shape[1] != key.shape[1]:
                return None
            return _Shape.of(query, key)

    def run(self, shape: _Shape) -> Tensor:
        scale = shape.head_size**-0.5 if self.scale is None else self.scale
        mask = self.attn_mask
        if mask is not None and mask.dtype == torch.bool:
            mask = _added(mask, self.query.dtype)
        return attention(self.query, self.key, self.value, mask, scale=scale)


class _not_traced:  # noqa: N801 (read as a statement: with _not_traced())
    """Sizes that are looked at within it are numbers, not parts of the traced graph."""

    def __enter__(self) -> None:
        tracer: Any = torch._C
        self._state = tracer._get_tracing_state()
        tracer._set_tracing_state(None)

    def __exit__(self, *_: object) -> None:
        tracer: Any = torch._C
        tracer._set_tracing_state(self._state)


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores. It is the same in every layer, so that a compiler makes it once."""
    with _not_traced():
        repeated = [dim for dim, stride in enumerate(mask.stride()) if stride == 0]
    for dim in repeated:
        mask = mask.narrow(dim, 0, 1)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)


class OwnAttention(TorchFunctionMode):
    """Within it, calls of the shapes that are faster so go to ``torch.ops.corestream.attention``.

    Args:
        is_ours: Whether that is so, for each shape.
    """

    def __init__(self, is_ours: Mapping[_Shape, bool]) -> None:
        super().__init__()
        self._is_ours = is_ours

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Takes the place of calls of ``scaled_dot_product_attention``."""
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            call = _Call(*args, **kwargs)
            shape = call.shape()
            if shape is not None and self._wants(shape):
                return call.run(shape)
        return func(*args, **kwargs)

    def _wants(self, shape: _Shape) -> bool:
        return self._is_ours.get(shape, False)


class _Scout(OwnAttention):
    """Takes note of the shapes that come."""

    def __init__(self) -> None:
        super().__init__({})
        self.shapes: set[_Shape] = set()

    def _wants(self, shape: _Shape) -> bool:
        self.shapes.add(shape)
        return False


def own_attention(model: nn.Module, inputs: ModelInputs) -> OwnAttention:
    """A scope to trace or export the model in; runs it once and measures the shapes it has."""
    scout = _Scout()
    with torch.no_grad(), scout:
        inputs.call(model)
    with torch.no_grad():
        return OwnAttention({shape: shape.our_kernel_is_faster() for shape in scout.shapes})
