"""Linear layers that read one input, query, key and value say, as one product."""

from __future__ import annotations

from torch import nn

from corestream.optimization.plan import Edit, Plan, Situation, restore


def plan(situation: Situation) -> Plan:
    """One product for each group of two linear layers or more that read the same tensor."""
    found = Plan()
    for group in situation.wiring.same_input:
        names = [name for name in group if type(situation.modules.get(name)) is nn.Linear]
        fit = []
        for name in names:
            reason = situation.why_not_packable(name)
            if reason is None:
                fit.append(name)
            elif len(names) > 1:
                found.skipped[name] = reason
        if len(fit) > 1:
            found.edits.append(Edit(tuple(fit), situation.packer.pack_together, restore))
    return found
