"""A model that computes in another dtype and answers in its own, without touching the user's."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from corestream.measure.inputs import ModelInputs
from corestream.runtime.structure import children, rebuild

# Means and variances in half precision cost accuracy and save nothing: PyTorch's kernels take
# activations in half precision beside float32 parameters, and freezing folds batch norms anyway.
_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)

Model = TypeVar("Model", bound=nn.Module)


def share_weights(model: Model) -> Model:
    """A copy of `model` whose parameters and buffers are new objects over the same memory.

    What is done to the copy, ``copy.to(torch.bfloat16)`` say, leaves the model as it is, and what
    is not converted costs nothing.
    """
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        view = tensor.detach()
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(view, requires_grad=False) if is_parameter else view
    return copy.deepcopy(model, memo)


def in_dtype(model: nn.Module, inputs: ModelInputs, *, dtype: torch.dtype | None) -> nn.Module:
    """A copy of `model` that computes in `dtype`, over the same weights where they stay.

    Weights are cast except those of normalisations; floating point inputs are cast on the way in,
    outputs back to what the model itself returns for `inputs`. The casts are forward hooks, which
    tracing and exporting record as part of the graph.
    """
    fresh = share_weights(model)
    if dtype is None:
        return fresh
    expected = inputs.call(model)
    for module in fresh.modules():
        if not isinstance(module, _NORMS):
            _cast_own(module, dtype)

    def cast_in(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cast = ModelInputs(args, kwargs).map(lambda t: t.to(dtype) if t.is_floating_point() else t)
        return cast.args, cast.kwargs

    def cast_out(_: nn.Module, args: tuple[Any, ...], outputs: Any) -> Any:
        return _with_dtypes_of(expected, outputs)

    # The first hook to see the inputs and the last to see the outputs: the user's own are inside.
    fresh.register_forward_pre_hook(cast_in, with_kwargs=True, prepend=True)
    fresh.register_forward_hook(cast_out)
    return fresh


def _cast_own(module: nn.Module, dtype: torch.dtype) -> None:
    for parameter in module.parameters(recurse=False):
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.is_floating_point():
            setattr(module, name, buffer.to(dtype))


def _with_dtypes_of(expected: Any, outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        is_cast = isinstance(expected, Tensor) and outputs.is_floating_point()
        return outputs.to(expected.dtype) if is_cast else outputs
    pairs, wanted = children(outputs), children(expected)
    if pairs is None or wanted is None or len(pairs) != len(wanted):
        return outputs
    values = zip(pairs, wanted, strict=True)
    contents = [_with_dtypes_of(value, output) for (_, output), (_, value) in values]
    return rebuild(outputs, contents)
