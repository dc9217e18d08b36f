"""Weights of convolutions in channels-last order, so that activations are so too.

oneDNN's convolutions and torch's pooling and normalisation are fastest there. One channels-last
weight is enough for all activations after it to follow. Tensors of three dims have no such memory
format; packed 1d convolutions run as 2d ones, and their results are strided the same way.
"""

from __future__ import annotations

import torch
from torch import nn

from corestream.optimization.kinds import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS
from corestream.optimization.plan import Edit, Modules, Plan, Situation
from corestream.optimization.tree import with_tensors

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def plan(situation: Situation) -> Plan:
    """Channels last for each weight of a 2d or 3d convolution."""
    found = Plan()
    for name, module in situation.modules.items():
        if type(module) not in (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS):
            continue
        weight = module._parameters.get("weight")
        named = _FORMATS.get(weight.dim()) if weight is not None else None
        if weight is None or named is None:
            continue
        if id(weight) in situation.shared:
            found.skipped[name] = "its weight is shared with another module"
        elif not weight.is_contiguous(memory_format=named):
            found.edits.append(Edit((name,), _build, _restore))
    return found


def _build(modules: Modules) -> Modules:
    return tuple(_in_format(module, _FORMATS[_weight(module).dim()]) for module in modules)


def _restore(modules: Modules) -> Modules:
    return tuple(_in_format(module, torch.contiguous_format) for module in modules)


def _weight(module: nn.Module) -> torch.Tensor:
    weight = module._parameters["weight"]
    if weight is None:
        raise TypeError(f"module must have a weight; got {module!r}; leave it as it is")
    return weight


def _in_format(module: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    weight = _weight(module)
    values = weight.detach().contiguous(memory_format=memory_format)
    return with_tensors(module, {"weight": nn.Parameter(values, weight.requires_grad)})
