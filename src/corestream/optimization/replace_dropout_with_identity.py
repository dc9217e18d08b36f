"""Takes out dropout, which does nothing in evaluation but costs a call."""

from __future__ import annotations

from torch import nn

from corestream.optimization.plan import Edit, Modules, Plan, Situation
from corestream.optimization.tree import has_hooks

_DROPOUTS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


class RemovedDropout(nn.Identity):
    """Stands for a dropout; keeps its settings, which some models read."""

    def __init__(self, dropout: nn.Module) -> None:
        super().__init__()
        self.dropout_class = type(dropout)
        self.p, self.inplace = dropout.p, dropout.inplace

    def restore(self) -> nn.Module:
        """The dropout, as it was in evaluation."""
        dropout: nn.Module = self.dropout_class(p=self.p, inplace=self.inplace)
        return dropout.eval()


def plan(situation: Situation) -> Plan:
    """An identity for each dropout that is in evaluation."""
    found = Plan()
    for name, module in situation.modules.items():
        if type(module) not in _DROPOUTS:
            continue
        if module.training:
            found.skipped[name] = "it is in training mode: it drops on purpose"
        elif has_hooks(module):
            found.skipped[name] = "it has hooks"
        else:
            found.edits.append(Edit((name,), _build, _restore))
    return found


def _build(modules: Modules) -> Modules:
    return tuple(RemovedDropout(module).eval() for module in modules)


def _restore(modules: Modules) -> Modules:
    return tuple(module.restore() for module in modules if isinstance(module, RemovedDropout))
