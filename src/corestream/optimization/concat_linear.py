"""Linear layers that read one input, query, key and value say, as one product."""

from __future__ import annotations

from torch import nn

from corestream.nn import ConcatLinear
from corestream.optimization.plan import Edit, Modules, Plan, Situation, restore


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
            found.edits.append(_edit(tuple(fit), is_exact=situation.packer.is_exact))
    return found


def _edit(names: tuple[str, ...], *, is_exact: bool) -> Edit:
    def build(modules: Modules) -> Modules:
        return tuple(ConcatLinear.from_modules(list(modules), exact_state=is_exact))

    return Edit(names, build, restore)
