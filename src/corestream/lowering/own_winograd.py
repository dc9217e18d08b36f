"""Convolutions by Winograd's algorithm, where that is faster than our direct kernel."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from corestream.lowering.kernel_times import is_ours_faster, on_team
from corestream.lowering.timed_for import TimedFor
from corestream.ops.convolution import ConvolutionShape, convolution, pack_convolution
from corestream.ops.winograd import has_winograd_kernel, pack_winograd

_ROUNDS = 12
# What four times the weights are worth.
_MARGIN = 0.95
# Weights are timed as a model has them: in memory, as others were used in between. A layer of 512
# by 512 channels has 38 MB of them, and takes as long as the direct kernel for one image of 7 x 7.
_COLD_BYTES = 64 * 1024**2
_MOST_COPIES = 16


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
    def winograd_is_faster(self) -> bool:
        """As measured on a team of that size, once a process for every size."""
        has_kernel = has_winograd_kernel(self.dtype, self.shape)
        if not has_kernel or 0 in (self.height, self.width):
            return False
        with on_team(self.team_size), torch.no_grad():
            channels = self.shape.weight_size[1]
            # Written to: memory that never was is one page of zeros, wherever it is read.
            x = torch.full((self.images, channels, self.height, self.width), 0.5)
            x = x.contiguous(memory_format=torch.channels_last)
            weight = torch.full(self.shape.weight_size, 0.5)
            return is_ours_faster(
                self._call(x, pack_winograd(weight)),
                {"direct": self._call(x, pack_convolution(weight))},
                rounds=_ROUNDS,
                margin=_MARGIN,
            )

    def _call(self, x: Tensor, packed: Tensor) -> Callable[[], Any]:
        """A call that finds its weights in memory."""
        copies = min(_MOST_COPIES, -(-_COLD_BYTES // packed.nbytes))
        weights = itertools.cycle([packed, *(packed.clone() for _ in range(copies - 1))])
        return lambda: convolution(x, next(weights), shape=self.shape)
