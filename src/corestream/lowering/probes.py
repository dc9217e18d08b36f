"""Calls whose results the model itself gives, to judge lowered ones by."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from corestream.errors import LoweringError
from corestream.lowering.backend import LoweringRequest
from corestream.measure.inputs import ModelInputs
from corestream.measure.numerics import Difference, compare, default_tolerance
from corestream.measure.precision import tolerance_in

_PRECISION = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Probe:
    """A call, what the model returned for it, and whether streams will get such shapes."""

    name: str
    inputs: ModelInputs
    expected: Any
    is_usual: bool

    def judge(
        self, actual: Any, *, dtype: torch.dtype | None, tolerance: float | None
    ) -> Difference:
        """How far `actual` is from what the model returned, where `dtype` was computed in."""
        computed_in = lowest_precision(self.expected, self.inputs.tensors(), dtype)
        return compare(actual, self.expected, dtype=computed_in, tolerance=tolerance)

    def num_elements(self) -> int:
        """How large the inputs are."""
        return sum(tensor.numel() for tensor in self.inputs.tensors())

    def limit_of(self, model: nn.Module, *, dtype: torch.dtype | None) -> float:
        """What a result may differ by for those who asked for `dtype`, or who have the model's."""
        # The model's own dtype may be lower.
        lowest = lowest_precision(self.expected, self.inputs.tensors(), dtype)
        allowed, dtype = default_tolerance(lowest), dtype or lowest
        own = tolerance_in(model, self.inputs, expected=self.expected, dtype=dtype)
        return max(allowed, own)


def lowest_precision(*sources: Any) -> torch.dtype:
    """Of dtypes and of floating point tensors, however nested; float32 if there is none."""
    leaves = torch.utils._pytree.tree_leaves(sources)
    dtypes = {leaf.dtype if isinstance(leaf, Tensor) else leaf for leaf in leaves}
    found = [dtype for dtype in _PRECISION if dtype in dtypes]
    return found[-1] if found else torch.float32


def make_probes(request: LoweringRequest) -> list[Probe]:
    """The example; every batch size named, and, if any must work, 1 and another; other values.

    A trace is right for what it saw. Other sizes find sizes that it took for constants, other
    values find a branch that depends on data. What the model itself cannot run is left out.

    Raises:
        LoweringError: The model cannot run the example, or no batch size that is to work.
    """
    sizes = request.batch_sizes
    is_usual = not sizes or request.inputs.batch_size() in sizes
    example = _run(request, "example", request.inputs, is_usual=is_usual)
    probes = [example] if is_usual or request.dynamic_batch else []
    largest = request.inputs
    calls = []
    if sizes:
        largest = request.inputs.with_batch(max(sizes))
        others = {1, max(sizes) + 1} if request.dynamic_batch else set()
        for size in sorted({*sizes, *others}):
            resized = request.inputs.with_batch(size)
            calls.append((f"batch size {size}", resized, size in sizes))
    calls.append(("other values", largest.map(_other_values), True))
    for name, inputs, is_usual in calls:
        with suppress(LoweringError):
            probes.append(_run(request, name, inputs, is_usual=is_usual))
    if not probes:
        raise LoweringError(
            f"the model must run on batches of {' or '.join(map(str, sizes))}; got an exception "
            f"for each; give batch_sizes that model(...) takes"
        )
    return probes


def _run(request: LoweringRequest, name: str, inputs: ModelInputs, *, is_usual: bool) -> Probe:
    try:
        return Probe(name, inputs, inputs.call(request.model), is_usual)
    except Exception as error:
        raise LoweringError(
            f"the model must run on example_inputs; got {type(error).__name__}: {error}; pass "
            f"inputs that model(...) takes"
        ) from error


def _other_values(tensor: Tensor) -> Tensor:
    """Of the same kind: floats with the other sign, integers in reverse order."""
    if tensor.dtype == torch.bool or tensor.dim() == 0:
        return tensor
    return -tensor if tensor.is_floating_point() else tensor.flip(-1)
