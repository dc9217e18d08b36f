"""Products in a lower precision; what is between them as autocast has it."""

from __future__ import annotations

import torch
from torch import nn

from corestream.nn import FoldedBatchNorm, batch_norm_affine, packed_class
from corestream.nn.layout import can_pack
from corestream.nn.packed import PackedLayer
from corestream.optimization.autocast import LayerScope, ModelScope, detach
from corestream.optimization.plan import Edit, Modules, Packer, Plan, Situation


def plan(situation: Situation) -> Plan:
    """A layer packed in the dtype for each plain and each packed one, and autocast around them.

    What is not packed keeps its parameters as they are: embeddings and norms, whose rounding
    costs accuracy and saves little.
    """
    found = Plan()
    folded = {
        id(module._into[0]): name
        for name, module in situation.modules.items()
        if isinstance(module, FoldedBatchNorm)
    }
    for name, module in situation.modules.items():
        if not isinstance(module, PackedLayer):
            if packed_class(type(module)) is None:
                continue
            reason = situation.why_not_packable(name)
            if reason is not None:
                found.skipped[name] = reason
                continue
        follower = folded.get(id(module))
        names = (name,) if follower is None else (name, follower)
        is_packed = isinstance(module, PackedLayer)
        edit = _edit(names, dtype=situation.dtype, packer=situation.packer, was_packed=is_packed)
        found.edits.append(edit)
    if found.edits and situation.dtype is not None:
        found.edits += _scopes(situation, situation.dtype)
    return found


def _edit(
    names: tuple[str, ...], *, dtype: torch.dtype | None, packer: Packer, was_packed: bool
) -> Edit:
    """A layer, and the batch norm that is folded into it if there is one."""

    def pack(modules: Modules, into: torch.dtype | None) -> Modules:
        layer, *norms = map(_plain, modules)
        affine = batch_norm_affine(norms[0]) if norms else None
        packed = packer.pack(names[0], layer, affine=affine, dtype=into)
        if into is not None:
            LayerScope(into).attach(packed)
        return packed, *(FoldedBatchNorm.from_module(norm, into=packed) for norm in norms)

    def restore(modules: Modules) -> Modules:
        return pack(modules, None) if was_packed else tuple(map(_plain, modules))

    return Edit(names, lambda modules: pack(modules, dtype), restore)


def _plain(module: nn.Module) -> nn.Module:
    """A layer of torch.nn; one of a group that was one product is by itself again."""
    if not isinstance(module, PackedLayer | FoldedBatchNorm):
        return module
    plain: nn.Module = module.restore()
    detach(plain)
    return plain


def _scopes(situation: Situation, dtype: torch.dtype) -> list[Edit]:
    """The root, with autocast around its forward, and what cannot follow autocast, without."""
    found = [_scope("", ModelScope(dtype))]
    if not can_pack(dtype):
        # Autocast sends recurrent layers to oneDNN in a dtype that it then has no kernel for.
        kept = LayerScope(torch.float32)
        modules = situation.modules.items()
        found += [_scope(name, kept) for name, m in modules if isinstance(m, nn.RNNBase)]
    return found


def _scope(name: str, scope: ModelScope | LayerScope) -> Edit:
    def build(modules: Modules) -> Modules:
        scope.attach(modules[0])
        return modules

    def restore(modules: Modules) -> Modules:
        detach(modules[0])
        return modules

    return Edit((name,), build, restore)
