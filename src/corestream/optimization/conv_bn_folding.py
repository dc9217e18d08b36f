"""Folds batch norms into the convolutions before them."""

from __future__ import annotations

from corestream.optimization.folding import plan_folds
from corestream.optimization.kinds import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS
from corestream.optimization.plan import Plan, Situation


def plan(situation: Situation) -> Plan:
    """An edit for each convolution whose output only a batch norm reads."""
    return plan_folds(situation, (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS))
