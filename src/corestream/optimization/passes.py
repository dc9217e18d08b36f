"""The passes, in the order they run, and which of them a level has on."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from corestream.optimization.plan import Plan, Situation

LEVELS = ("O0", "O1")


@dataclass(frozen=True)
class Pass:
    """A change of the model that its results survive.

    Attributes:
        name: Of its knob, and of the file beside this one whose ``plan`` it is.
        levels: Those that have it on.
        must_pay: Whether it is undone if it brings nothing, and not only if it costs time.
            Without example inputs, which tell, it is off unless it is asked for.
        does: One line for the table.
    """

    name: str
    levels: tuple[str, ...]
    does: str
    must_pay: bool = False

    def plan(self, situation: Situation) -> Plan:
        """The edits that it would make."""
        module = importlib.import_module(f"corestream.optimization.{self.name}")
        found: Plan = module.plan(situation)
        return found


PASSES = (
    Pass("channels_last", ("O0", "O1"), "weights of 2d and 3d convolutions in channels-last order"),
    Pass("replace_dropout_with_identity", ("O1",), "takes out dropout"),
    Pass("conv_bn_folding", ("O1",), "folds batch norms into convolutions"),
    Pass("linear_bn_folding", ("O1",), "folds batch norms into linear layers"),
    Pass("concat_linear", ("O1",), "linear layers that share an input as one", must_pay=True),
    Pass("weights_prepack", ("O1",), "weights in oneDNN's layout"),
)


def switched_on(
    level: str, knobs: Mapping[str, bool | None], *, has_inputs: bool
) -> tuple[list[Pass], tuple[str, ...]]:
    """The passes that run, and the names of the others; a knob overrules the level."""
    on, off = [], []
    for each in PASSES:
        knob = knobs.get(each.name)
        default = level in each.levels and (has_inputs or not each.must_pay)
        if default if knob is None else knob:
            on.append(each)
        else:
            off.append(each.name)
    return on, tuple(off)


def table() -> str:
    """Which passes there are, and which of them each level has on.

    Returns:
        A table to print.

    Example:
        >>> from corestream.optimization import table
        >>> print(table().splitlines()[0])
        pass                           O0   O1   does

    Thread-safe; a pure function that holds the GIL.
    """
    rows = [["pass", *LEVELS, "does"]]
    for each in PASSES:
        states = ["on" if level in each.levels else "off" for level in LEVELS]
        rows.append([each.name, *states, each.does])
    rows.append(["dtype", "on", "on", "products in the dtype that is asked for, if one is"])
    return "\n".join(f"{name:29}  {o0:3}  {o1:3}  {does}" for name, o0, o1, does in rows)
