"""Layers by corestream's kernels, with what follows them: norms, sums, limits, joins.

A graph of oneDNN's fused groups spends 7 us on the way to each, a quarter of MobileNetV2's time for
one image. A mode that sees the calls of a model as it is traced puts ours in their place, one for
all that belongs together; what was recorded before it was known to belong has no use, and goes.
"""

from __future__ import annotations

import functools
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
from corestream.lowering.own_calls import (
    Call,
    ConvolutionCall,
    LinearCall,
    Results,
    has_own_convolution,
    limits_of,
)
from corestream.lowering.own_embeddings import EmbeddingCall, JoinedRowsCall, may_join_embeddings
from corestream.lowering.own_images import JoinedCall, PoolCall
from corestream.lowering.own_lstm import LSTMCall, may_have_lstm
from corestream.lowering.sizes import are_equal, not_traced
from corestream.lowering.timed_for import TimedFor
from corestream.measure.inputs import ModelInputs

_Args = tuple[Any, ...]

_CONVOLUTION, _LINEAR, _NORM, _SUM, _LIMIT = "convolution", "linear", "norm", "sum", "limit"
_MAX_POOL, _AVG_POOL, _JOIN = "max pool", "avg pool", "join"
_ADAPTIVE_POOL, _MEAN = "adaptive pool", "mean"
_EMBEDDING, _STACK, _LSTM = "embedding", "stack", "lstm"
_KINDS = {
    _CONVOLUTION: ("conv2d",),
    _LINEAR: ("linear",),
    _NORM: ("batch_norm",),
    _SUM: ("add", "add_"),
    _MAX_POOL: ("max_pool2d",),
    _AVG_POOL: ("avg_pool2d",),
    _ADAPTIVE_POOL: ("adaptive_avg_pool2d",),
    _MEAN: ("mean",),
    _JOIN: ("cat", "concat", "concatenate"),
    _EMBEDDING: ("embedding",),
    _STACK: ("stack",),
    _LSTM: ("lstm",),
    _LIMIT: ("relu", "relu_", "relu6", "hardtanh", "hardtanh_", "clamp", "clamp_", "clip", "clip_"),
}
_POOLS: dict[str, Callable[[_Args, dict[str, Any]], Call | None]] = {
    _MAX_POOL: functools.partial(PoolCall.of, is_average=False),
    _AVG_POOL: functools.partial(PoolCall.of, is_average=True),
    _ADAPTIVE_POOL: PoolCall.of_adaptive,
    _MEAN: PoolCall.of_mean,
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}
# They tell nothing of what is in a tensor.
_ATTRIBUTES: tuple[Any, ...] = (Tensor.shape, Tensor.dtype, Tensor.device, Tensor.ndim)
_QUESTIONS = {Tensor.size, Tensor.dim, Tensor.numel, *(each.__get__ for each in _ATTRIBUTES)}
# A join that is read by one of these is the first step of a channel shuffle, which reads its parts.
_RESHAPES = {"view", "reshape", "unflatten", "channel_shuffle"}


@dataclass
class Reads:
    """What a run of a model tells of the results that may be ours, by the number of their call.

    Attributes:
        counts: How often each is read.
        continued: Those that a later call takes in, if nobody else reads them.
    """

    counts: Counter[int]
    continued: set[int]

    def __bool__(self) -> bool:
        return bool(self.counts)


class _Calls(TorchFunctionMode):
    """Knows which results are calls of ours with what follows them, and counts who reads them."""

    def __init__(self, model: nn.Module, *, timed_for: TimedFor) -> None:
        super().__init__()
        self._timed_for = timed_for
        self._constants = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._known: Notes[tuple[int, Call]] = Notes()
        self._index = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Follows what a model does to the results of our calls."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func not in _QUESTIONS:
            self._note_reads(name, args, kwargs)
        kind = _KIND_OF.get(name)
        if kind is None:
            return func(*args, **kwargs)
        # Numbered alike in each run of the model: tracing itself calls none of these.
        self._index += 1
        index = self._index
        found = self._recognise(kind, func, args, kwargs)
        if isinstance(found, JoinedCall) and not self._may_join(index):
            found = None
        if found is None:
            return func(*args, **kwargs)
        self._note_continued(found, args)
        result = self._run(found, func, args, kwargs)
        for tensor in (result,) if isinstance(result, Tensor) else result:
            self._known.keep(tensor, (index, found), sources=found.sources())
        return result

    def _run(self, found: Call, func: Any, args: _Args, kwargs: dict[str, Any]) -> Results:
        raise NotImplementedError

    def _note_reads(self, name: str, args: _Args, kwargs: dict[str, Any]) -> None:
        """Told what a call of that name reads."""

    def _note_continued(self, found: Call, args: _Args) -> None:
        """Told of a call of ours, before it runs."""

    def _may_extend(self, index: int) -> bool:
        """Whether what follows the call of that number may be taken into it."""
        raise NotImplementedError

    def _may_join(self, index: int) -> bool:
        """Whether nobody wants the parts of the join of that number."""
        return True

    def _recognise(self, kind: str, func: Any, args: _Args, kwargs: dict[str, Any]) -> Call | None:
        if not args or torch.is_autocast_enabled("cpu"):
            return None
        with not_traced():
            if kind in (_JOIN, _STACK):
                return self._joined(kind, args, kwargs)
            if not isinstance(args[0], Tensor):
                return None
            if kind == _LSTM:
                return LSTMCall.of(args, kwargs) if self._is_constant(args[2:3], {}) else None
            if kind in _POOLS:
                return _POOLS[kind](args, kwargs)
            if kind in (_CONVOLUTION, _LINEAR, _EMBEDDING):
                is_constant = self._is_constant(args[1:], kwargs)
                return self._layer(kind, args, kwargs) if is_constant else None
            if _writes(func, kwargs) and self._open(args[0]) is None:
                # It may have other names, under which it would be read as it was.
                return None
            if kind == _NORM:
                return self._with_norm(func, args, kwargs)
            if kind == _SUM:
                return self._with_sum(args, kwargs)
            known, limits = self._open(args[0]), limits_of(func, rest=args[1:], options=kwargs)
            return known.limited(*limits) if known is not None and limits is not None else None

    def _layer(self, kind: str, args: _Args, kwargs: dict[str, Any]) -> Call | None:
        if kind == _LINEAR:
            return LinearCall.of(*args, **kwargs, timed_for=self._timed_for)
        if kind == _EMBEDDING:
            return EmbeddingCall.of(*args, **kwargs)
        call = ConvolutionCall.of(*args, **kwargs, timed_for=self._timed_for)
        return call.after(self._open(args[0])) if call is not None else None

    def _joined(self, kind: str, args: _Args, kwargs: dict[str, Any]) -> Call | None:
        if not set(kwargs) <= {"dim"}:
            return None
        if kind == _JOIN:
            images = JoinedCall.of(*args, **kwargs, opened=self._open)
            if images is not None:
                return images
        is_stacked = kind == _STACK
        return JoinedRowsCall.of(*args, **kwargs, opened=self._open, is_stacked=is_stacked)

    def _open(self, tensor: Any) -> Call | None:
        known = self._known.about(tensor)
        return known[1] if known is not None and self._may_extend(known[0]) else None

    def _is_constant(self, args: _Args, kwargs: dict[str, Any]) -> bool:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        return bool(tensors) and all(id(tensor) in self._constants for tensor in tensors)

    def _with_norm(self, func: Any, args: _Args, kwargs: dict[str, Any]) -> Call | None:
        known = self._open(args[0])
        if func is not nn.functional.batch_norm or not self._is_constant(args[1:], kwargs):
            return None
        if not isinstance(known, ConvolutionCall) or not known.is_bare:
            return None
        return known.with_norm(*args[1:], **kwargs)

    def _with_sum(self, args: _Args, kwargs: dict[str, Any]) -> Call | None:
        if kwargs or len(args) != 2 or not all(isinstance(arg, Tensor) for arg in args):
            return None
        if args[0] is args[1] or args[0].dim() != args[1].dim():
            return None
        if not all(map(are_equal, args[0].shape, args[1].shape)):
            return None
        for known, other in ((self._open(args[0]), args[1]), (self._open(args[1]), args[0])):
            if not isinstance(known, ConvolutionCall) or not known.is_bare:
                continue
            if other.dtype == known.input.dtype:
                return replace(known, residual=other)
        return None


class OwnLayers(_Calls):
    """Within it, layers that suit are ours; linear ones only where that is faster.

    Args:
        model: What is traced: weights that it does not own are no constants.
        reads: What :func:`count_reads` found: a result that others read, too, is left as it is.
        timed_for: What layers are timed for.
    """

    def __init__(self, model: nn.Module, reads: Reads, *, timed_for: TimedFor) -> None:
        super().__init__(model, timed_for=timed_for)
        self._reads = reads.counts
        self._continued = reads.continued
        self._stale: Any = WeakIdKeyDictionary()

    def _may_extend(self, index: int) -> bool:
        return self._reads[index] == 1

    def _may_join(self, index: int) -> bool:
        return self._reads[index] > 0

    def _run(self, found: Call, func: Any, args: _Args, kwargs: dict[str, Any]) -> Results:
        """Ours alone: graphs keep calls that write to a tensor, also where nobody reads it."""
        if _writes(func, kwargs):
            self._stale[args[0]] = True
        index = self._index
        if index in self._continued and self._may_extend(index):
            # A call that goes on takes its place: a chain would run from its beginning each time.
            return found.run_link()
        return found.run()

    def _note_reads(self, name: str, args: _Args, kwargs: dict[str, Any]) -> None:
        self.check((args, kwargs))

    def check(self, values: Any) -> None:
        """Raises ValueError for a tensor that the model has written to, and we have not.

        Args:
            values: What is read; the model's outputs, as nobody calls torch with them.
        """
        tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
        if any(tensor in self._stale for tensor in tensors):
            raise ValueError(
                "what the model writes to must be read as the call's result; got one that is read "
                "under its old name; assign the result, or use another backend"
            )


class _Reads(_Calls):
    """Counts how often each result is read that may become a call of ours."""

    def __init__(self, model: nn.Module, *, timed_for: TimedFor) -> None:
        super().__init__(model, timed_for=timed_for)
        self._counts: Counter[int] = Counter()
        self._in_parts: set[int] = set()
        self._continued: set[int] = set()

    def _may_extend(self, index: int) -> bool:
        return True

    def _run(self, found: Call, func: Any, args: _Args, kwargs: dict[str, Any]) -> Results:
        result: Results = func(*args, **kwargs)
        return result

    def _note_reads(self, name: str, args: _Args, kwargs: dict[str, Any]) -> None:
        self.note((args, kwargs), name=name)

    def _note_continued(self, found: Call, args: _Args) -> None:
        for arg in args[:2]:
            known = self._known.about(arg)
            if known is not None and isinstance(found, ConvolutionCall):
                index, call = known
                if found.continues(call):
                    self._continued.add(index)

    def note(self, values: Any, *, name: str = "") -> None:
        for leaf in tree_leaves(values):
            known = self._known.about(leaf)
            if known is None:
                continue
            index, call = known
            self._counts[index] += 1
            if isinstance(call, JoinedCall) and name in _RESHAPES:
                self._in_parts.add(index)

    def found(self) -> Reads:
        """All that was seen; no reads of joins that are read in parts."""
        kept = {index: n for index, n in self._counts.items() if index not in self._in_parts}
        return Reads(Counter(kept), self._continued)


def _writes(func: Any, kwargs: dict[str, Any]) -> bool:
    """Whether the call writes to its first argument."""
    return func.__name__.endswith("_") or bool(kwargs.get("inplace"))


def may_have_own_layers(model: nn.Module) -> bool:
    """Whether layers of the model suit, as far as they themselves tell."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return (
        any(map(has_own_convolution, layers)) or may_join_embeddings(model) or may_have_lstm(model)
    )


def count_reads(model: nn.Module, inputs: ModelInputs, *, timed_for: TimedFor) -> Reads:
    """Runs the model; false if nothing of it would be ours.

    Args:
        model: In eval mode.
        inputs: What it will be traced with.
        timed_for: What layers are timed for.

    Returns:
        What is known of the result of the n-th call of torch, for those that may be ours.
    """
    reads = _Reads(model, timed_for=timed_for)
    with torch.no_grad():
        with reads:
            outputs = inputs.call(model)
        reads.note(outputs)
    return reads.found()
