"""Calls of corestream's kernels while a model is traced, and what may become a part of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from corestream.lowering.own_linear import LinearShape
from corestream.lowering.own_winograd import ConvolutionSize, packed
from corestream.lowering.sizes import not_traced
from corestream.lowering.timed_for import TimedFor
from corestream.ops.chain import convolution_chain
from corestream.ops.convolution import (
    ConvolutionShape,
    PackedConvolution,
    convolution,
    has_convolution_kernel,
)
from corestream.ops.joining import JoinedPart
from corestream.ops.linear import linear, pack_linear

# What a call of torch's operator takes beyond its kernel, where a captured graph runs ours without
# a call (csrc/torch/captured_graph.h).
_TORCH_CALL_S = 2e-6
_LIMITED_IN_PLACE = (nn.functional.relu, nn.functional.relu6, nn.functional.hardtanh)


Results = Tensor | tuple[Tensor, ...]


class Call:
    """What is known so far to belong to a call of ours."""

    @property
    def is_bare(self) -> bool:
        """Whether norms and sums may still become a part of it."""
        return False

    def limited(self, low: float, high: float) -> Self | None:
        """Followed by a clamp; None if that cannot become a part of it."""
        return None

    def sources(self) -> list[Tensor]:
        """The tensors that it reads when it runs."""
        raise NotImplementedError

    def run(self) -> Results:
        """The operator, as a part of what is traced; its weights are constants."""
        raise NotImplementedError

    def run_link(self) -> Results:
        """The same where a later call will take its place."""
        return self.run()


@dataclass(frozen=True)
class OwnCall(Call):
    """A call with a weight, a bias and limits.

    Attributes:
        input: What it reads.
        weight: A constant of the model, with what was folded into it.
        bias: Another, or None.
        low: The least output.
        high: The largest.
    """

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    low: float = -math.inf
    high: float = math.inf

    def limited(self, low: float, high: float) -> Self:
        """As :meth:`Call.limited`; of two, the second has the last word, as the upper limit has."""
        low = min(low, high)
        return replace(self, low=min(max(self.low, low), high), high=max(min(self.high, high), low))

    def sources(self) -> list[Tensor]:
        """As :meth:`Call.sources`."""
        return [self.input]

    def _limits(self) -> tuple[float | None, float | None]:
        low = None if self.low == -math.inf else self.low
        return low, None if self.high == math.inf else self.high

    def _float_bias(self) -> Tensor | None:
        return None if self.bias is None else self.bias.detach().float()


@dataclass(frozen=True)
class LinearCall(OwnCall):
    """A linear layer."""

    @classmethod
    def of(
        cls,
        input: Tensor,  # noqa: A002 (as torch has it)
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        timed_for: TimedFor,
    ) -> Self | None:
        """None where torch's kernel is faster."""
        shape = LinearShape.of(input, weight, timed_for=timed_for)
        is_ours = shape is not None and shape.our_kernel_is_faster(
            is_compiled=False, allowance_s=_TORCH_CALL_S
        )
        return cls(input, weight.detach(), bias) if is_ours else None

    def run(self) -> Tensor:
        """As :meth:`Call.run`."""
        with not_traced():
            packed, bias = pack_linear(self.weight), self._float_bias()
            size = int(self.weight.shape[0])
        low, high = self._limits()
        return linear(self.input, packed, out_features=size, bias=bias, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class ConvolutionCall(OwnCall):
    """A convolution of channels-last images.

    Attributes:
        shape: What it is but for its tensors.
        timed_for: What its algorithm is chosen for.
        residual: What is added to it, or None.
        before: What makes its input, where nobody else reads that; None where somebody may, or the
            two cannot be computed row by row.
    """

    shape: ConvolutionShape
    timed_for: TimedFor
    residual: Tensor | None = None
    before: ConvolutionCall | None = None

    @classmethod
    def of(
        cls,
        input: Tensor,  # noqa: A002 (as torch has it)
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        *,
        timed_for: TimedFor,
    ) -> Self | None:
        """None where there is no kernel of ours."""
        if isinstance(padding, str) or input.dim() != 4 or input.stride(1) != 1:
            return None
        sizes = _sizes(weight.shape)
        shape = _shape(sizes, stride, padding, dilation, groups)
        if input.dtype != weight.dtype or not has_convolution_kernel(input.dtype, shape):
            return None
        return cls(input, weight.detach(), bias, shape=shape, timed_for=timed_for)

    @property
    def is_bare(self) -> bool:
        """As :attr:`Call.is_bare`."""
        return self.residual is None and self.low == -math.inf and self.high == math.inf

    def with_norm(
        self,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Self | None:
        """Followed by a batch norm with these arguments of torch's; None if it is no constant."""
        if training or running_mean is None or running_var is None:
            return None
        # In double, so that what is rounded is the folded weight and nothing before.
        scale = (running_var.double() + eps).rsqrt()
        if weight is not None:
            scale = scale * weight.double()
        shift = -running_mean.double() if self.bias is None else self.bias - running_mean.double()
        shift = shift * scale if bias is None else shift * scale + bias.double()
        folded = self.weight.double() * scale[:, None, None, None]
        return replace(self, weight=folded.to(self.weight.dtype), bias=shift.float())

    def after(self, known: Call | None) -> Self:
        """With what is known of its input, if they suit each other."""
        if not isinstance(known, ConvolutionCall) or known.residual is not None:
            return self
        shape = self.shape
        is_product = (
            shape.weight_size[2:] == (1, 1) and shape.stride == (1, 1) and shape.padding == (0, 0)
        )
        return replace(self, before=known) if is_product or shape.groups > 1 else self

    def continues(self, other: Call) -> bool:
        """Whether it is the other call with more, or its next link."""
        if self.before is other:
            return True
        if not isinstance(other, ConvolutionCall):
            return False
        return self.shape is other.shape and self.input is other.input

    def sources(self) -> list[Tensor]:
        """As :meth:`Call.sources`."""
        first = self._chain()[0].input
        return [first] if self.residual is None else [first, self.residual]

    def run(self) -> Tensor:
        """As :meth:`Call.run`."""
        if self.before is not None:
            chain = self._chain()
            layers = [call._layer for call in chain]
            return convolution_chain(chain[0].input, layers, residual=self.residual)
        return self._run_layer(self._layer)

    def run_link(self) -> Tensor:
        """As :meth:`Call.run_link`: the last convolution, of an input that was computed."""
        with not_traced():
            weight = packed(self.weight, tile=0, groups=self.shape.groups)
        return self._run_layer(self._layer_of(weight))

    def _run_layer(self, layer: PackedConvolution) -> Tensor:
        return convolution(
            self.input,
            layer.packed,
            shape=layer.shape,
            bias=layer.bias,
            residual=self.residual,
            low=layer.low,
            high=layer.high,
        )

    def part(self) -> JoinedPart:
        """As a part of a concatenation, which has no residual."""
        return JoinedPart(input=self.input, convolution=self._layer)

    def _chain(self) -> list[ConvolutionCall]:
        before = [] if self.before is None else self.before._chain()
        return [*before, self]

    @functools.cached_property
    def _layer(self) -> PackedConvolution:
        with not_traced():
            size = ConvolutionSize.of(self.input, self.shape, timed_for=self.timed_for)
            tile = size.best_tile()
            return self._layer_of(packed(self.weight, tile=tile, groups=self.shape.groups))

    def _layer_of(self, weight: Tensor) -> PackedConvolution:
        low, high = self._limits()
        with not_traced():
            bias = self._float_bias()
        return PackedConvolution(packed=weight, shape=self.shape, bias=bias, low=low, high=high)


def has_own_convolution(layer: nn.Conv2d) -> bool:
    """Whether such a layer may be ours, in a dtype that there are kernels for."""
    if isinstance(layer.padding, str):
        return False
    geometry = layer.stride, layer.padding, layer.dilation
    shape = _shape(_sizes(layer.weight.shape), *geometry, layer.groups)
    return any(has_convolution_kernel(dtype, shape) for dtype in (torch.float32, torch.bfloat16))


def limits_of(
    function: Callable[..., Any], *, rest: tuple[Any, ...], options: dict[str, Any]
) -> tuple[float, float] | None:
    """(least, largest) of a call that does nothing but limit its first argument; else None.

    Args:
        function: A function or method of torch.
        rest: Its arguments after the first.
        options: Those that have a name.
    """
    name = function.__name__.removesuffix("_")
    if function in _LIMITED_IN_PLACE:
        options = {key: value for key, value in options.items() if key != "inplace"}
    if name in ("relu", "relu6"):
        # The one argument that there may be is whether to write in place.
        return (0.0, 6.0 if name == "relu6" else math.inf) if not options else None
    names = ("min_val", "max_val") if name == "hardtanh" else ("min", "max")
    defaults = {"min_val": -1.0, "max_val": 1.0, "min": -math.inf, "max": math.inf}
    given = dict(zip(names, rest, strict=False)) | options
    if any(key not in names for key in given):
        return None
    given = {key: value for key, value in given.items() if value is not None}
    low, high = (given.get(key, defaults[key]) for key in names)
    is_plain = isinstance(low, (int, float)) and isinstance(high, (int, float))
    return (float(low), float(high)) if is_plain else None


def _shape(
    sizes: tuple[int, int, int, int], stride: Any, padding: Any, dilation: Any, groups: int
) -> ConvolutionShape:
    return ConvolutionShape(
        sizes,
        stride=pair(stride),
        padding=pair(padding),
        dilation=pair(dilation),
        groups=groups,
    )


def pair(value: Any) -> tuple[int, int]:
    """Rows and columns, of what torch takes for them."""
    values = (value, value) if isinstance(value, int) else tuple(value)
    first, second = values * 2 if len(values) == 1 else values
    return int(first), int(second)


def _sizes(sizes: torch.Size) -> tuple[int, int, int, int]:
    first, second, third, fourth = map(int, sizes)
    return first, second, third, fourth
