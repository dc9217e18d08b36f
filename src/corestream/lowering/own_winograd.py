"""Convolutions by Winograd's algorithm, where that is faster than our direct kernel."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from corestream.lowering.kernel_times import best_times, on_team
from corestream.lowering.timed_for import TimedFor
from corestream.ops.convolution import ConvolutionShape, convolution, pack_convolution
from corestream.ops.winograd import has_winograd_kernel, pack_winograd

# Within a second: of a small layer, some calls are then left alone by whatever else runs.
_ROUNDS = 128
# Of each size of the kernel the forms of the weight, by what they take: the direct one, and tiles
# of Winograd's algorithm. More memory is for a form that takes less than this share of the time.
_TILES = {3: (0, 4, 6), 5: (0, 6)}
_MARGIN = 0.95
# Weights are timed as a model has them: in memory, as others were used in between. With these in a
# cache, forms with more of them look better than they are.
_COLD_BYTES = 64 * 1024**2
_MOST_COPIES = 128


@dataclass(frozen=True)
class ConvolutionSize:
    """What decides which algorithm is faster."""

    dtype: torch.dtype
    images: int
    height: int
    width: int
    shape: ConvolutionShape
    team_size: int

    @classmethod
    def of(cls, input: Tensor, shape: ConvolutionShape, *, timed_for: TimedFor) -> Self:  # noqa: A002 (as torch has it)
        """Of a call that is traced."""
        images, _, height, width = map(int, input.shape)
        size = timed_for.count(images), height, width
        return cls(input.dtype, *size, shape, timed_for.team_size)

    @functools.cache  # noqa: B019 (a value: nothing is kept alive but numbers)
    def best_tile(self) -> int:
        """That of the fastest form on a team of that size; 0 if it is the direct one.

        Measured once a process for every size.
        """
        has_kernel = has_winograd_kernel(self.dtype, self.shape)
        if not has_kernel or 0 in (self.height, self.width):
            return 0
        with on_team(self.team_size), torch.no_grad():
            # Written to: memory that never was is one page of zeros, wherever it is read.
            size = self.images, self.shape.weight_size[1], self.height, self.width
            of_dtype = torch.empty((), dtype=self.dtype, device="cpu")
            x = of_dtype.new_full(size, 0.5).contiguous(memory_format=torch.channels_last)
            weight = of_dtype.new_full(self.shape.weight_size, 0.5)
            tiles = _TILES[self.shape.weight_size[2]]
            calls = {str(tile): self._call(x, packed(weight, tile=tile)) for tile in tiles}
            times = best_times(calls, rounds=_ROUNDS)
        best = tiles[0]
        for tile in tiles:
            if times[str(tile)] < _MARGIN * times[str(best)]:
                best = tile
        return best

    def _call(self, x: Tensor, weight: Tensor) -> Callable[[], Any]:
        """A call that finds its weights in memory."""
        copies = min(_MOST_COPIES, -(-_COLD_BYTES // weight.nbytes))
        weights = itertools.cycle([weight, *(weight.clone() for _ in range(copies - 1))])
        return lambda: convolution(x, next(weights), shape=self.shape)


def packed(weight: Tensor, *, tile: int, groups: int = 1) -> Tensor:
    """A weight of ``conv2d`` as :func:`corestream.ops.convolution` takes it.

    Args:
        weight: The weight.
        tile: Of Winograd's algorithm; 0 for the direct kernel.
        groups: Those of the convolution.
    """
    return pack_winograd(weight, tile=tile) if tile else pack_convolution(weight, groups)
