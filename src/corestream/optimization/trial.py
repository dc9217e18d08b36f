"""Makes edits and undoes them unless the model says the same as before, and no later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from corestream.measure.inputs import ModelInputs
from corestream.measure.numerics import Difference, compare
from corestream.measure.precision import tolerance_in
from corestream.measure.timing import Timing, compare_times, is_faster, speedup
from corestream.optimization.plan import Edit, Modules, Plan
from corestream.optimization.report import PassReport
from corestream.optimization.tree import copy_structure, leaves, swap, tensors_of

# A judgement takes two rounds of timing at most: the second confirms a loss.
_BUDGET_S = 1.0


@dataclass(frozen=True)
class Rules:
    """When the edits of a pass are undone.

    Attributes:
        must_pay: Also if they bring no gain beyond noise.
        may_cost: Not for taking time, since the caller asked for them.
        dtype: What products are computed in after them, which decides the tolerance.
        tolerance: A wider one than the dtype's, where the dtype was asked for.
    """

    must_pay: bool = False
    may_cost: bool = False
    dtype: torch.dtype | None = None
    tolerance: float | None = None


@dataclass
class _Made:
    """An edit that was made; `old` only where keeping it costs no memory."""

    edit: Edit
    new: Modules
    old: Modules | None


class Trial:
    """A model under change, and what it answered before."""

    def __init__(
        self,
        root: nn.Module,
        *,
        inputs: ModelInputs | None,
        keeps_old: bool,
        dtype: torch.dtype,
        tolerance: float | None,
    ) -> None:
        self.root = root
        self.dtype = dtype
        self._inputs = inputs
        self._keeps_old = keeps_old
        self._tolerance = tolerance
        self._expected: Any = None
        self.is_deterministic = True
        if inputs is not None:
            self._expected = self._run(root)
            self.is_deterministic = self._difference(dtype).is_within

    def attempt(self, plan: Plan, *, name: str, rules: Rules) -> list[PassReport]:
        """Makes the edits of a plan, part by part, and keeps the parts that hold."""
        reports = []
        skipped, note = dict(plan.skipped), plan.note
        by_part = sorted(plan.edits, key=lambda edit: edit.part)
        for part, edits in groupby(by_part, key=lambda edit: edit.part):
            title = f"{name}: {part}" if part else name
            reports.append(self._attempt_part(list(edits), name=title, rules=rules))
        if skipped or note or not reports:
            reports.append(PassReport(name, skipped=skipped, note=note))
        return _joined(reports)

    def time_against(self, original: nn.Module) -> float | None:
        """How many times as fast the model is now."""
        if self._inputs is None:
            return None
        timings = self._time({"before": original, "after": self.root})
        return speedup(timings["after"], timings["before"])

    def tolerance_in(self, dtype: torch.dtype) -> float | None:
        """What the model as it is may lose by a cast; None: what was said, or the default."""
        if self._inputs is None or self._tolerance is not None:
            return None
        return tolerance_in(self.root, self._inputs, expected=self._expected, dtype=dtype)

    def snapshot(self) -> nn.Module:
        """The model as it is now, over the same leaves."""
        return copy_structure(self.root, keep=[*tensors_of(self.root), *leaves(self.root)])

    def _attempt_part(self, edits: Sequence[Edit], *, name: str, rules: Rules) -> PassReport:
        has_inputs = self._inputs is not None
        before = self.snapshot() if has_inputs and self._keeps_old else None
        base = self._time({"before": self.root}) if has_inputs and before is None else {}
        made, failed = self._make(edits)
        done = tuple(name for each in made for name in each.edit.names)
        if not made or not has_inputs:
            return PassReport(name, done, failed)
        difference = self._difference_of_a_run(rules.dtype or self.dtype, rules.tolerance)
        gain, reason = None, None
        if not difference.is_within:
            reason = difference.reason
        else:
            gain, reason = self._judge(before, base, rules=rules)
        if reason is not None:
            self._undo(made)
            done = ()
        error = difference.error if self.is_deterministic else None
        return PassReport(name, done, failed, gain, error, reason)

    def _judge(
        self, before: nn.Module | None, base: dict[str, Timing], *, rules: Rules
    ) -> tuple[float, str | None]:
        """(speed-up, why to undo it): a loss counts if it is seen twice."""
        for _ in range(2):
            models = {"after": self.root} if before is None else {"before": before}
            timings = base | self._time(models | {"after": self.root})
            gain = speedup(timings["after"], timings["before"])
            if rules.may_cost or is_faster(timings["after"], timings["before"]):
                return gain, None
            if not rules.must_pay and not is_faster(timings["before"], timings["after"]):
                return gain, None
        verb = "gains nothing" if gain >= 1 else "is slower"
        return gain, f"it {verb}: {gain:.2f} times as fast"

    def _make(self, edits: Sequence[Edit]) -> tuple[list[_Made], dict[str, str]]:
        made: list[_Made] = []
        failed: dict[str, str] = {}
        for edit in edits:
            modules = dict(self.root.named_modules())
            old = tuple(modules[name] for name in edit.names)
            del modules
            try:
                new = edit.build(old)
            except (RuntimeError, ValueError, TypeError) as error:
                failed |= dict.fromkeys(edit.names, str(error))
                continue
            self.root = swap(self.root, dict(zip(old, new, strict=True)))
            made.append(_Made(edit, new, old if self._keeps_old else None))
        return made, failed

    def _undo(self, made: Sequence[_Made]) -> None:
        for each in reversed(made):
            old = each.old
            if old is None or old == each.new:  # changed in place: only the edit knows how
                old = each.edit.restore(each.new)
            self.root = swap(self.root, dict(zip(each.new, old, strict=True)))
            each.new = ()

    def _run(self, model: nn.Module) -> Any:
        if self._inputs is None:
            raise RuntimeError("a trial must have inputs to run the model; got none; report this")
        # Clones: a model may write to its inputs. No inference mode: one may keep a tensor.
        with torch.no_grad():
            return self._inputs.map(Tensor.clone).call(model)

    def _difference(self, dtype: torch.dtype, tolerance: float | None = None) -> Difference:
        actual = self._run(self.root)
        limit = self._tolerance if tolerance is None else tolerance
        return compare(actual, self._expected, dtype=dtype, tolerance=limit)

    def _difference_of_a_run(self, dtype: torch.dtype, tolerance: float | None) -> Difference:
        try:
            difference = self._difference(dtype, tolerance)
        except Exception as error:  # noqa: BLE001 (the model ran before: the pass has broken it)
            reason = f"the model raised {type(error).__name__}: {error}"
            return Difference(False, math.inf, 0.0, "output", reason)
        return difference if self.is_deterministic else replace(difference, is_within=True)

    def _time(self, models: dict[str, nn.Module]) -> dict[str, Timing]:
        calls = {name: (lambda model=model: self._run(model)) for name, model in models.items()}
        return compare_times(calls, budget_s=_BUDGET_S)


def _joined(reports: list[PassReport]) -> list[PassReport]:
    """The entry about what was skipped is that of a pass with one part, too."""
    if len(reports) == 2 and reports[0].name == reports[1].name:
        first, rest = reports
        skipped = dict(rest.skipped) | dict(first.skipped)
        return [
            PassReport(
                first.name,
                first.done,
                skipped,
                first.speedup,
                first.error,
                first.rolled_back,
                rest.note,
            )
        ]
    return reports
