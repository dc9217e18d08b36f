"""Attention by corestream's own kernel in what is traced or exported, where that is faster.

torch's fused attention multiplies with MKL, also in bf16, at a quarter to a half of what AVX-512
can do on CPUs that MKL does not know: 0.07 of 0.3 TFLOP/s on a Zen 5 core in bf16, 0.08 of 0.2 in
fp32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from corestream.lowering.kernel_times import is_ours_faster, on_team
from corestream.lowering.sizes import are_equal, not_traced
from corestream.ops.attention import attention, has_attention_kernel

_ROUNDS = 50
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
        shape = cls(_computed_in(query.dtype), *sizes)
        has_kernel = has_attention_kernel(
            shape.dtype, head_size=shape.head_size, num_keys=shape.keys
        )
        return shape if has_kernel else None

    @functools.cache  # noqa: B019 (a value: nothing is kept alive but numbers)
    def our_kernel_is_faster(self, team_size: int) -> bool:
        """As measured on a team of that size, for one item; once a process for every shape.

        The plans of one package, and the backends, then decide alike.
        """
        query, key, value = (
            torch.randn(1, rows, self.heads, self.head_size).to(self.dtype).transpose(1, 2)
            for rows in (self.queries, self.keys, self.keys)
        )
        with on_team(team_size):
            return is_ours_faster(
                lambda: attention(query, key, value),
                {"torch": lambda: nn.functional.scaled_dot_product_attention(query, key, value)},
                rounds=_ROUNDS,
                margin=_MARGIN,
            )


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
        with not_traced():
            return _Shape.of(self.query, self.key) if self._is_plain() else None

    def _is_plain(self) -> bool:
        """Whether nothing is to be broadcast, and only bools have a dtype of their own."""
        query, key, value, mask = self.query, self.key, self.value, self.attn_mask
        if query.dim() != 4 or key.dim() != 4 or value.dim() != 4:
            return False
        dtypes = {query.dtype, key.dtype, value.dtype}
        if mask is not None and mask.dtype != torch.bool:
            dtypes.add(mask.dtype)
        pairs = [(key.shape[dim], value.shape[dim]) for dim in range(4)]
        pairs += [(query.shape[dim], key.shape[dim]) for dim in (0, 1, 3)]
        return len(dtypes) == 1 and all(are_equal(*pair) for pair in pairs)

    def run(self) -> Tensor:
        mask = self.attn_mask
        if mask is not None and mask.dtype == torch.bool:
            mask = _added(mask, self.query.dtype)
        return attention(self.query, self.key, self.value, mask, scale=self.scale)


def _computed_in(dtype: torch.dtype) -> torch.dtype:
    """What autocast, if it is on, makes of it."""
    if torch.is_autocast_enabled("cpu") and dtype != torch.float64:
        return torch.get_autocast_dtype("cpu")
    return dtype


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores. It is the same in every layer, so that a compiler makes it once."""
    with not_traced():
        repeated = [dim for dim, stride in enumerate(mask.stride()) if stride == 0]
    for dim in repeated:
        mask = mask.narrow(dim, 0, 1)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)


def _multi_head(attend: Callable[..., Tensor]) -> Callable[..., Any]:
    """What `nn.MultiheadAttention` calls, with `attend` in the place of torch's kernel.

    A mode is not told of calls within functions that it was told of.
    """
    original: Any = nn.functional.multi_head_attention_forward
    names = dict(original.__globals__)
    copied = FunctionType(
        original.__code__, names, original.__name__, original.__defaults__, original.__closure__
    )
    copied.__kwdefaults__ = original.__kwdefaults__
    # Modes below this one get the copy, too.
    names |= {"scaled_dot_product_attention": attend, original.__name__: copied}
    return copied


class OwnAttention(TorchFunctionMode):
    """Within it, calls of the shapes that are faster so go to ``torch.ops.corestream.attention``.

    Args:
        is_ours: Whether that is so, for each shape.
    """

    def __init__(self, is_ours: Mapping[_Shape, bool]) -> None:
        super().__init__()
        self._is_ours = is_ours
        self._multi_head = _multi_head(self._attend)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Takes the place of calls of ``scaled_dot_product_attention``."""
        if func is nn.functional.scaled_dot_product_attention:
            func = self._attend
        elif func is nn.functional.multi_head_attention_forward:
            func = self._multi_head
        return func(*args, **(kwargs or {}))

    def _attend(self, *args: Any, **kwargs: Any) -> Tensor:
        call = _Call(*args, **kwargs)
        shape = call.shape()
        if shape is not None and self._wants(shape):
            return call.run()
        return nn.functional.scaled_dot_product_attention(*args, **kwargs)

    def _wants(self, shape: _Shape) -> bool:
        return self._is_ours.get(shape, False)


class AttentionScout(OwnAttention):
    """Takes note of the shapes that come."""

    def __init__(self) -> None:
        super().__init__({})
        self._shapes: set[_Shape] = set()

    def _wants(self, shape: _Shape) -> bool:
        self._shapes.add(shape)
        return False

    def decide(self, *, team_size: int) -> dict[_Shape, bool]:
        """Whether our kernel is faster, for each shape that came; measures those not known yet."""
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return {shape: shape.our_kernel_is_faster(team_size) for shape in self._shapes}
