"""Products in a lower precision; what is between them as autocast has it."""

from __future__ import annotations

import torch
from torch import nn

from corestream.nn import (
    ConcatLinear,
    FoldedBatchNorm,
    PackedLayer,
    batch_norm_affine,
    can_pack,
    packed_class,
)
from corestream.optimization.autocast import ModelScope, RecurrentScope, detach
from corestream.optimization.plan import Edit, Modules, Packer, Plan, Situation


def plan(situation: Situation) -> Plan:
    """A layer packed in the dtype for each plain and each packed one, and autocast around them.

    What is not packed keeps its parameters as they are: embeddings and norms, whose rounding
    costs accuracy and saves little.
    """
    found = Plan()
    norms = {
        id(module.into): name
        for name, module in situation.modules.items()
        if isinstance(module, FoldedBatchNorm)
    }
    together: dict[object, tuple[str, ...]] = {}
    for name, module in situation.modules.items():
        if isinstance(module, PackedLayer):
            group = module.group if isinstance(module, ConcatLinear) else None
            key = id(module) if group is None else id(group)
            norm = norms.get(id(module))
            together[key] = (*together.get(key, ()), name, *([] if norm is None else [norm]))
        elif packed_class(type(module)) is not None:
            reason = situation.why_not_packable(name)
            if reason is None:
                together[id(module)] = (name,)
            else:
                found.skipped[name] = reason
    found.edits += [_edit(names, situation) for names in together.values()]
    if found.edits and situation.dtype is not None:
        _add_scopes(found, situation, dtype=situation.dtype)
    return found


def _add_scopes(found: Plan, situation: Situation, *, dtype: torch.dtype) -> None:
    """The root, with autocast around its forward, and what cannot follow autocast, without."""
    found.edits.append(_scope("", ModelScope(dtype)))
    if can_pack(dtype):
        return
    for name, module in situation.modules.items():
        if isinstance(module, nn.RNNBase):
            found.edits.append(_scope(name, RecurrentScope(dtype)))
            found.skipped[name] = f"this CPU has no kernel for recurrent layers in {dtype}"


def _edit(names: tuple[str, ...], situation: Situation) -> Edit:
    """A layer, with the batch norm that is folded into it, or layers that are one product."""
    dtype, packer = situation.dtype, situation.packer
    was_packed = isinstance(situation.modules[names[0]], PackedLayer)

    def restore(modules: Modules) -> Modules:
        return _packed(modules, None, names=names, packer=packer) if was_packed else _plain(modules)

    return Edit(names, lambda m: _packed(m, dtype, names=names, packer=packer), restore)


def _packed(
    modules: Modules, dtype: torch.dtype | None, *, names: tuple[str, ...], packer: Packer
) -> Modules:
    plain = _plain(modules)
    if len(plain) > 1 and isinstance(plain[1], nn.Linear):
        return packer.pack_together(plain, dtype=dtype)
    layer, *norms = plain
    affine = batch_norm_affine(norms[0]) if norms else None
    packed = packer.pack(names[0], layer, affine=affine, dtype=dtype)
    return packed, *(FoldedBatchNorm.from_module(norm, into=packed) for norm in norms)


def _plain(modules: Modules) -> Modules:
    return tuple(
        module.restore() if isinstance(module, PackedLayer | FoldedBatchNorm) else module
        for module in modules
    )


def _scope(name: str, scope: ModelScope | RecurrentScope) -> Edit:
    def build(modules: Modules) -> Modules:
        scope.attach(modules[0])
        return modules

    def restore(modules: Modules) -> Modules:
        detach(modules[0])
        return modules

    return Edit((name,), build, restore)
