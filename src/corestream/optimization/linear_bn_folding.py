"""Folds batch norms into the linear layers before them."""

from __future__ import annotations

from torch import nn

from corestream.optimization.folding import plan_folds
from corestream.optimization.plan import Plan, Situation


def plan(situation: Situation) -> Plan:
    """An edit for each linear layer with rows for inputs whose output only a batch norm reads.

    A batch norm takes dim 1 for its channels, which are the linear layer's features only where
    there are two dims; with three it normalises positions, even if there happen to be as many.
    """
    found = plan_folds(situation, (nn.Linear,))
    for edit in list(found.edits):
        name, follower = edit.names
        if len(situation.wiring.input_sizes.get(name, ())) != 2:
            found.edits.remove(edit)
            found.skipped[follower] = (
                f"the inputs of {name} are not known to have two dims: pass example_inputs"
                if name not in situation.wiring.input_sizes
                else f"the inputs of {name} have more dims than two"
            )
    return found
