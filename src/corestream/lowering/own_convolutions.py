"""Convolutions by corestream's kernels, with the norm, the sum and the limits that follow them.

A graph of oneDNN's fused groups spends 7 us on the way to each, a quarter of MobileNetV2's time for
one image. A mode that sees the calls of a model as it is traced puts ours in their place, one for
all that belongs together; what was recorded before it was known to belong has no use, and goes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from corestream.lowering.notes import Notes
from corestream.lowering.sizes import not_traced
from corestream.measure.inputs import ModelInputs
from corestream.ops.convolution import (
    ConvolutionShape,
    convolution,
    has_convolution_kernel,
    pack_convolution,
)

_CONVOLUTION, _NORM, _SUM, _LIMIT = "convolution", "norm", "sum", "limit"
_KINDS = {
    _CONVOLUTION: ("conv2d",),
    _NORM: ("batch_norm",),
    _SUM: ("add", "add_", "__add__", "__iadd__", "__radd__"),
    _LIMIT: ("relu", "relu_", "relu6", "hardtanh", "hardtanh_", "clamp", "clamp_", "clip", "clip_"),
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}
# They tell nothing of what is in a tensor.
_ATTRIBUTES: tuple[Any, ...] = (Tensor.shape, Tensor.dtype, Tensor.device, Tensor.ndim)
_QUESTIONS = {Tensor.size, Tensor.dim, Tensor.numel, *(each.__get__ for each in _ATTRIBUTES)}
_DTYPES = torch.float32, torch.bfloat16
_Args = tuple[Any, ...]


@dataclass(frozen=True)
class _Convolution:
    """A call of ours: what is known to belong to it so far."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    shape: ConvolutionShape
    residual: Tensor | None = None
    low: float = -math.inf
    high: float = math.inf

    @property
    def is_bare(self) -> bool:
        """Whether a sum may still be added: nothing limits it, and there is none."""
        return self.residual is None and self.low == -math.inf and self.high == math.inf

    def run(self) -> Tensor:
        with not_traced():
            packed = pack_convolution(self.weight, self.shape.groups)
            bias = None if self.bias is None else self.bias.float()
        return convolution(
            self.input,
            packed,
            shape=self.shape,
            bias=bias,
            residual=self.residual,
            low=None if self.low == -math.inf else self.low,
            high=None if self.high == math.inf else self.high,
        )

    def sources(self) -> list[Tensor]:
        return [self.input] if self.residual is None else [self.input, self.residual]

    def limited(self, low: float, high: float) -> _Convolution:
        """Followed by a clamp; of two, the second has the last word."""
        return replace(
            self,
            low=min(max(self.low, low), high),
            high=max(min(self.high, high), low),
        )


class _Calls(TorchFunctionMode):
    """Knows which results are convolutions with what follows them, and counts who reads them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._constants = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._known: Notes[tuple[int, _Convolution]] = Notes()
        self._index = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Follows what a model does to the results of convolutions."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func not in _QUESTIONS:
            self._note_reads(args, kwargs)
        kind = _KIND_OF.get(name)
        if kind is None:
            return func(*args, **kwargs)
        # Numbered alike in each run of the model: tracing itself calls none of these.
        self._index += 1
        index = self._index
        found = self._recognise(kind, func, args, kwargs)
        if found is None:
            return func(*args, **kwargs)
        result = self._run(found, func, args, kwargs)
        self._known.keep(result, (index, found), sources=found.sources())
        return result

    def _run(self, found: _Convolution, func: Any, args: _Args, kwargs: dict[str, Any]) -> Tensor:
        raise NotImplementedError

    def _note_reads(self, args: _Args, kwargs: dict[str, Any]) -> None:
        """Told what a call reads."""

    def _may_extend(self, index: int) -> bool:
        """Whether what follows the call of that number may be taken into the convolution."""
        raise NotImplementedError

    def _recognise(
        self, kind: str, func: Any, args: _Args, kwargs: dict[str, Any]
    ) -> _Convolution | None:
        if not args or not isinstance(args[0], Tensor) or torch.is_autocast_enabled("cpu"):
            return None
        with not_traced():
            if kind == _CONVOLUTION:
                return self._convolution(*args, **kwargs)
            if kind == _NORM:
                is_ours = func is nn.functional.batch_norm
                return self._with_norm(*args, **kwargs) if is_ours else None
            if kind == _SUM:
                return self._with_sum(args, kwargs)
            known, limits = self._open(args[0]), _limits(func, args[1:], dict(kwargs))
            return known.limited(*limits) if known is not None and limits is not None else None

    def _open(self, tensor: Any) -> _Convolution | None:
        known = self._known.about(tensor)
        return known[1] if known is not None and self._may_extend(known[0]) else None

    def _is_constant(self, *tensors: Tensor | None) -> bool:
        return all(tensor is None or id(tensor) in self._constants for tensor in tensors)

    def _convolution(
        self,
        input: Tensor,  # noqa: A002 (as torch has it)
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> _Convolution | None:
        if isinstance(padding, str) or not self._is_constant(weight, bias):
            return None
        if input.dim() != 4 or input.stride(1) != 1 or input.dtype != weight.dtype:
            return None
        shape = ConvolutionShape(
            _ints(weight.shape), _pair(stride), _pair(padding), _pair(dilation), groups
        )
        if not has_convolution_kernel(input.dtype, shape):
            return None
        return _Convolution(input, weight.detach(), bias, shape)

    def _with_norm(
        self,
        input: Tensor,  # noqa: A002 (as torch has it)
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> _Convolution | None:
        known = self._open(input)
        if known is None or not known.is_bare or training:
            return None
        if running_mean is None or running_var is None:
            return None
        if not self._is_constant(running_mean, running_var, weight, bias):
            return None
        # In double, so that what is rounded is the folded weight and nothing before.
        scale = (running_var.double() + eps).rsqrt()
        if weight is not None:
            scale = scale * weight.double()
        shift = -running_mean.double() if known.bias is None else known.bias - running_mean.double()
        shift = shift * scale if bias is None else shift * scale + bias.double()
        folded = known.weight.double() * scale[:, None, None, None]
        return replace(known, weight=folded.to(known.weight.dtype), bias=shift.float())

    def _with_sum(self, args: _Args, kwargs: dict[str, Any]) -> _Convolution | None:
        if kwargs or len(args) != 2 or not all(isinstance(arg, Tensor) for arg in args):
            return None
        for known, other in ((self._open(args[0]), args[1]), (self._open(args[1]), args[0])):
            if known is None or not known.is_bare or args[0] is args[1]:
                continue
            if args[0].shape == args[1].shape and other.dtype == known.input.dtype:
                return replace(known, residual=other)
        return None


class OwnConvolutions(_Calls):
    """Within it, convolutions that suit are ours.

    Args:
        model: What is traced: weights that it does not own are no constants.
        reads: What :func:`count_reads` found: a result that others read, too, is left as it is.
    """

    def __init__(self, model: nn.Module, reads: Counter[int]) -> None:
        super().__init__(model)
        self._reads = reads
        self._stale: Any = WeakIdKeyDictionary()

    def _may_extend(self, index: int) -> bool:
        return self._reads[index] == 1

    def _run(self, found: _Convolution, func: Any, args: _Args, kwargs: dict[str, Any]) -> Tensor:
        """Ours alone: graphs keep calls that write to a tensor, also where nobody reads it."""
        if func.__name__.endswith("_") or func.__name__ == "__iadd__" or kwargs.get("inplace"):
            self._stale[args[0]] = True
        return found.run()

    def _note_reads(self, args: _Args, kwargs: dict[str, Any]) -> None:
        if any(
            leaf in self._stale for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)
        ):
            raise ValueError("the model reads a tensor by another name after writing to it")


class _Reads(_Calls):
    """Counts how often each result is read that may become a convolution of ours."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.counts: Counter[int] = Counter()

    def _may_extend(self, index: int) -> bool:
        return True

    def _run(self, found: _Convolution, func: Any, args: _Args, kwargs: dict[str, Any]) -> Tensor:
        result: Tensor = func(*args, **kwargs)
        return result

    def _note_reads(self, args: _Args, kwargs: dict[str, Any]) -> None:
        self.note(args, kwargs)

    def note(self, *values: Any) -> None:
        for leaf in tree_leaves(values):
            known = self._known.about(leaf)
            if known is not None:
                self.counts[known[0]] += 1


def may_have_own_convolutions(model: nn.Module) -> bool:
    """Whether a layer of the model suits, as far as the layer itself tells."""
    return any(
        any(has_convolution_kernel(dtype, _shape_of(module)) for dtype in _DTYPES)
        for module in model.modules()
        if isinstance(module, nn.Conv2d) and not isinstance(module.padding, str)
    )


def _shape_of(layer: nn.Conv2d) -> ConvolutionShape:
    return ConvolutionShape(
        _ints(layer.weight.shape),
        _pair(layer.stride),
        _pair(layer.padding),
        _pair(layer.dilation),
        layer.groups,
    )


def count_reads(model: nn.Module, inputs: ModelInputs) -> Counter[int]:
    """Runs the model; empty if no convolution of it would be ours.

    Returns:
        How often the result of the n-th call of torch is read, for those that may be ours.
    """
    reads = _Reads(model)
    with torch.no_grad():
        with reads:
            outputs = inputs.call(model)
        reads.note(outputs)
    return reads.counts


def _limits(
    func: Callable[..., Any], rest: _Args, options: dict[str, Any]
) -> tuple[float, float] | None:
    """(least, largest) of a function that does nothing but limit its input."""
    name = func.__name__.removesuffix("_")
    if func in (nn.functional.relu, nn.functional.relu6, nn.functional.hardtanh):
        options.pop("inplace", None)
    if name in ("relu", "relu6"):
        # The one argument that there may be is whether to write in place.
        return (0.0, 6.0 if name == "relu6" else math.inf) if not options else None
    names = ("min_val", "max_val") if name == "hardtanh" else ("min", "max")
    defaults = {"min_val": -1.0, "max_val": 1.0, "min": -math.inf, "max": math.inf}
    given = dict(zip(names, rest, strict=False)) | options
    if any(key not in names for key in given):
        return None
    limits = [given.get(key, defaults[key]) for key in names]
    low, high = (
        defaults[key] if limit is None else limit for key, limit in zip(names, limits, strict=True)
    )
    is_plain = isinstance(low, (int, float)) and isinstance(high, (int, float))
    return (float(low), float(high)) if is_plain else None


def _pair(value: Any) -> tuple[int, int]:
    values = (value, value) if isinstance(value, int) else tuple(value)
    first, second = values * 2 if len(values) == 1 else values
    return int(first), int(second)


def _ints(sizes: torch.Size) -> tuple[int, int, int, int]:
    first, second, third, fourth = map(int, sizes)
    return first, second, third, fourth
