"""Which layers can be packed, and why the others cannot."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from corestream.nn.layout import Layout, layout_of

__all__ = ["shared_parameters", "why_not_packable"]

_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def why_not_packable(
    module: nn.Module, dtype: torch.dtype | None = None, *, shared: Collection[int] = ()
) -> str | None:
    """Why a layer cannot be replaced by a packed one, in words for a report.

    Args:
        module: Any module.
        dtype: What is to be computed in; None for the weight's own.
        shared: The ids of the parameters that several modules use (`shared_parameters`).

    Returns:
        None if it can be packed, the reason otherwise.

    Example:
        >>> import torch
        >>> from corestream.nn import why_not_packable
        >>> why_not_packable(torch.nn.Conv2d(3, 8, 3)) is None
        True
        >>> why_not_packable(torch.nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"))
        "its padding mode is 'circular'"

    Thread-safe while nobody changes the module; holds the GIL.
    """
    return (
        _why_not_its_class(module)
        or _why_not_its_weight(module, shared)
        or _why_not_its_dtype(module, dtype)
        or _why_not_its_geometry(module)
    )


def shared_parameters(model: nn.Module) -> frozenset[int]:
    """The parameters that several modules, or one module twice, have.

    A packed weight is one layer's own: tied weights have to stay the tensor that they are.

    Args:
        model: A model.

    Returns:
        The ids of those parameters.

    Example:
        >>> import torch
        >>> from corestream.nn import shared_parameters
        >>> head, embedding = torch.nn.Linear(8, 32, bias=False), torch.nn.Embedding(32, 8)
        >>> head.weight = embedding.weight
        >>> shared_parameters(torch.nn.Sequential(embedding, head)) == {id(head.weight)}
        True

    Thread-safe while nobody changes the model; holds the GIL.
    """
    seen: set[int] = set()
    twice: set[int] = set()
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                (twice if id(parameter) in seen else seen).add(id(parameter))
    return frozenset(twice)


def _why_not_its_class(module: nn.Module) -> str | None:
    if parametrize.is_parametrized(module):
        return "it has parametrizations, which compute its weight"
    if type(module) not in _KINDS:
        kind = type(module)
        is_derived = isinstance(module, _KINDS)
        cause = "may have a forward of its own" if is_derived else "has no packed kernel"
        return f"its class {kind.__name__} {cause}"
    if "forward" in vars(module):
        return "its forward has been replaced"
    return None


def _why_not_its_weight(module: nn.Module, shared: Collection[int]) -> str | None:
    weight = module._parameters.get("weight")
    if weight is None:
        return "its weight is no parameter: a hook such as weight_norm computes it"
    if isinstance(weight, UninitializedParameter):
        return "its weight has not been initialised yet"
    if type(weight) is not nn.Parameter:
        return f"its weight is a {type(weight).__name__}"
    for name, parameter in module._parameters.items():
        if id(parameter) in shared:
            return f"its {name} is shared with another module"
    if weight.layout is not torch.strided or weight.device.type != "cpu":
        return f"its weight is {weight.layout} on {weight.device}"
    return "its weight is empty" if weight.numel() == 0 else None


def _why_not_its_dtype(module: nn.Module, dtype: torch.dtype | None) -> str | None:
    tensors = [p for p in module._parameters.values() if p is not None]
    for found in [tensor.dtype for tensor in tensors] + ([dtype] if dtype else []):
        if found not in _DTYPES:
            return f"no kernel computes in {found}"
    if len({tensor.dtype for tensor in tensors}) > 1:
        return "its weight and bias differ in dtype"
    return None


def _why_not_its_geometry(module: nn.Module) -> str | None:
    if isinstance(module, nn.Linear):
        return None
    mode = getattr(module, "padding_mode", "zeros")
    if mode != "zeros":
        return f"its padding mode is {mode!r}"
    layout: Layout | None = layout_of(module)
    if layout is None and isinstance(module, nn.modules.conv._ConvTransposeNd):
        return "oneDNN has no kernel for an output padding as large as the stride"
    return "its padding differs from side to side" if layout is None else None
