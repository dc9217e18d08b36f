"""What a lower precision costs a model, however well it is computed."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from corestream.measure.inputs import ModelInputs
from corestream.measure.numerics import compare, default_tolerance

# No two ways to compute round alike: over seven convolutional networks the worst of 16,000 outputs
# differs between torch's own ways (autocast, cast weights) by up to 1.35 times.
_MARGIN = 1.5
# Outputs that have nothing to do with each other differ by 1 and more.
_MOST = 1.0
# Two computations in float32 each err as much as the model does, and others twice that: Inception
# v3 with random weights is 0.9e-4 from float64 in torch, and torch's is 1.5e-4 from its own in
# another memory format, 2.2e-4 from OpenVINO's.
_FLOAT32_MARGIN = 4.0
_FLOAT32_MOST = 0.01


def tolerance_in(
    model: nn.Module, inputs: ModelInputs, *, expected: Any, dtype: torch.dtype
) -> float:
    """What results may differ by for a caller who asked for `dtype`.

    Rounding to bf16 costs a trained ResNet-50 0.01 and one with random weights 0.42, in whatever
    way it is computed. So the limit is what the dtype allows in general, or, if that is more,
    one and a half times what the model itself loses under torch's autocast; but at most 1, since
    beyond that any output at all would do. For float32 it is four times what the model loses
    against float64, and at most 0.01. A model that does not run so has the general limit.

    Args:
        model: The model, in its own precision; for float64 it is copied.
        inputs: What it is called with.
        expected: What it returned for them.
        dtype: A floating point dtype: the model's own, float32, or one below it.

    Returns:
        A limit on `Difference.error`.

    Example:
        >>> import torch
        >>> inputs = ModelInputs((torch.ones(1, 4),), {})
        >>> model = torch.nn.ReLU()
        >>> tolerance_in(model, inputs, expected=torch.ones(1, 4), dtype=torch.bfloat16)
        0.2

    Thread-safe; runs the model on the calling thread.
    """
    allowed = default_tolerance(dtype)
    margin, most = (_FLOAT32_MARGIN, _FLOAT32_MOST) if dtype == torch.float32 else (_MARGIN, _MOST)
    try:
        if dtype == torch.float32:
            actual = _in_float64(model, inputs)
        elif dtype in (torch.bfloat16, torch.float16):  # autocast knows no others
            with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
                actual = inputs.map(Tensor.clone).call(model)
        else:
            return allowed
    except Exception:  # noqa: BLE001 (a cast may break a model that runs without)
        return allowed
    error = compare(actual, expected, dtype=dtype, same_dtypes=False).error
    return max(allowed, min(most, margin * error)) if math.isfinite(error) else allowed


def _in_float64(model: nn.Module, inputs: ModelInputs) -> Any:
    def widen(tensor: Tensor) -> Tensor:
        return tensor.double() if tensor.is_floating_point() else tensor.clone()

    with torch.no_grad():
        return inputs.map(widen).call(copy.deepcopy(model).double())
