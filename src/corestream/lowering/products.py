"""Batches of products with a transposed matrix by corestream's kernel, where that is faster."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from corestream.lowering.kernel_times import is_ours_faster, on_team
from corestream.lowering.sizes import are_equal, not_traced
from corestream.ops.kernels import has_kernels
from corestream.ops.product import multiply_transposed

_PRODUCTS = {torch.bmm, Tensor.bmm, torch.matmul, Tensor.matmul, Tensor.__matmul__}
# Of a larger batch, so many items tell the same.
_MOST_ITEMS = 16
# Elements of a result: larger ones are MKL's strength, and take long to measure.
_LARGEST = 1 << 18
_ROUNDS = 50
_MARGIN = 0.95


@dataclass(frozen=True)
class _Shape:
    """What decides which kernel is faster, for one item of the batch."""

    dtype: torch.dtype
    rows: int
    columns: int
    depth: int

    @classmethod
    def of(cls, left: Any, right: Any) -> Self | None:
        """None where a size is open, or there is no kernel of ours."""
        with not_traced():
            if not _are_transposed(left, right):
                return None
            sizes = left.shape[1], right.shape[2], left.shape[2]
            if not all(isinstance(size, int) and size > 0 for size in sizes):
                return None
            is_small = (
                max(sizes[0] * sizes[1], sizes[0] * sizes[2], sizes[1] * sizes[2]) <= _LARGEST
            )
            return cls(left.dtype, *sizes) if is_small and has_kernels(left.dtype) else None

    @functools.cache  # noqa: B019 (a value: nothing is kept alive but numbers)
    def our_kernel_is_faster(self, items: int, team_size: int) -> bool:
        """As measured for a batch on a team of that size; once a process."""
        left = torch.randn(items, self.rows, self.depth).to(self.dtype)
        right = torch.randn(items, self.columns, self.depth).to(self.dtype)
        with on_team(team_size):
            return is_ours_faster(
                lambda: multiply_transposed(left, right),
                {"torch": lambda: torch.bmm(left, right.transpose(1, 2))},
                rounds=_ROUNDS,
                margin=_MARGIN,
            )


def _are_transposed(left: Any, right: Any) -> bool:
    """Whether both are batches of matrices, and the right one's columns are adjacent elements."""
    return (
        isinstance(left, Tensor)
        and isinstance(right, Tensor)
        and left.dim() == right.dim() == 3
        and left.dtype == right.dtype
        and are_equal(left.shape[0], right.shape[0])
        and are_equal(left.shape[2], right.shape[1])
        and are_equal(left.stride(2), 1)
        and are_equal(right.stride(1), 1)
        and not torch.is_autocast_enabled("cpu")
    )


class OwnProducts(TorchFunctionMode):
    """Within it, products of the shapes that are faster so go to ``multiply_transposed``.

    Args:
        is_ours: Whether that is so, for each shape.
    """

    def __init__(self, is_ours: Mapping[_Shape, bool]) -> None:
        super().__init__()
        self._is_ours = is_ours

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Takes the place of products of batches."""
        if func in _PRODUCTS and len(args) == 2 and not kwargs:
            shape = _Shape.of(*args)
            if shape is not None and self._wants(shape, args[0].shape[0]):
                return multiply_transposed(args[0], args[1].transpose(1, 2))
        return func(*args, **(kwargs or {}))

    def _wants(self, shape: _Shape, items: Any) -> bool:
        return self._is_ours.get(shape, False)


class ProductScout(OwnProducts):
    """Takes note of the shapes that come."""

    def __init__(self) -> None:
        super().__init__({})
        self._items: dict[_Shape, int] = {}

    def _wants(self, shape: _Shape, items: Any) -> bool:
        with not_traced():
            self._items[shape] = max(1, min(int(items), _MOST_ITEMS))
        return False

    def decide(self, *, team_size: int) -> dict[_Shape, bool]:
        """Whether our kernel is faster, for each shape that came; measures those not known yet."""
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return {
                shape: shape.our_kernel_is_faster(items, team_size)
                for shape, items in self._items.items()
            }
