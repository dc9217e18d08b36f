"""Folds batch norms into the layers before them: what both folding passes share."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from corestream.nn import FoldedBatchNorm, batch_norm_affine
from corestream.optimization.kinds import BATCH_NORMS
from corestream.optimization.plan import Edit, Modules, Packer, Plan, Situation, restore
from corestream.optimization.tree import has_hooks


def plan_folds(situation: Situation, layers: Collection[type[nn.Module]]) -> Plan:
    """An edit for each layer of these kinds whose output only a batch norm reads."""
    found = Plan()
    for name, follower in situation.wiring.reader.items():
        if type(situation.modules[name]) not in layers:
            continue
        if not isinstance(situation.modules[follower], _BatchNorm):
            continue
        reason = _why_not(situation, name, follower)
        if reason is None:
            found.edits.append(_edit(situation.packer, name, follower))
        else:
            found.skipped[follower] = reason
    return found


def _why_not(situation: Situation, name: str, follower: str) -> str | None:
    layer, norm = situation.modules[name], situation.modules[follower]
    if not isinstance(norm, BATCH_NORMS) or type(norm) not in BATCH_NORMS:
        return f"its class {type(norm).__name__} may have a forward of its own"
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return "it normalises by the statistics of its input"
    if norm.num_features != getattr(layer, "out_channels", getattr(layer, "out_features", None)):
        return f"it has other channels than {name}"
    if has_hooks(norm) or has_hooks(layer):
        return f"{name} or it has hooks, which would see other values"
    if any(id(parameter) in situation.shared for parameter in norm.parameters()):
        return "its parameters are shared with another module"
    reason = situation.why_not_packable(name)
    return reason and f"{name} cannot be packed: {reason}"


def _edit(packer: Packer, name: str, follower: str) -> Edit:
    def build(modules: Modules) -> Modules:
        layer, norm = modules
        packed = packer.pack(name, layer, affine=batch_norm_affine(norm))
        return packed, FoldedBatchNorm.from_module(norm, into=packed)

    return Edit((name, follower), build, restore)
