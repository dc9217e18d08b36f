"""Weights in the layout that oneDNN's kernels read, brought into it once."""

from __future__ import annotations

from torch import nn

from corestream.optimization.kinds import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS
from corestream.optimization.plan import Edit, Modules, Packer, Plan, Situation, restore

_PARTS: dict[type[nn.Module], str] = {
    **dict.fromkeys(CONVOLUTIONS, "convolutions"),
    **dict.fromkeys(TRANSPOSED_CONVOLUTIONS, "convolutions"),
    nn.Linear: "linears",
}


def plan(situation: Situation) -> Plan:
    """A packed layer for each plain one; convolutions and linears are judged apart."""
    found = Plan()
    for name, module in situation.modules.items():
        part = _PARTS.get(type(module))
        if part is None:
            continue
        reason = situation.why_not_packable(name)
        if reason is None:
            found.edits.append(_edit(situation.packer, name, part))
        else:
            found.skipped[name] = reason
    return found


def _edit(packer: Packer, name: str, part: str) -> Edit:
    def build(modules: Modules) -> Modules:
        return tuple(packer.pack(name, module) for module in modules)

    return Edit((name,), build, restore, part)
