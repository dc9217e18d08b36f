"""The course of a tuning: look at settings while there is time, then compare the best in turns.

Knows neither torch nor threads: what measures and what tells the time come from outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from corestream.measure.timing import MIN_ROUNDS
from corestream.tuning.finals import Verdict, choose_finalists, judge, run_rounds
from corestream.tuning.objective import Objective
from corestream.tuning.search import Search
from corestream.tuning.setting import Measurement, Setting, Trial
from corestream.tuning.space import SearchSpace

NUM_FINALISTS = 3

# Of the time, what the finals get; and how long one measurement takes.
_FINALS = 0.35
_SHORTEST_S, _LONGEST_S = 0.1, 1.0
_TRIALS_HOPED_FOR = 40

# Calls before the first that counts, and that one: streams are warmed up in three rounds.
_CALLS_OF_TRIAL, _CALLS_OF_STOCK = 5, 2

# Stock is looked at again if that takes no more than this share of the time.
_AGAIN = 0.15

# Finalists with streams, and rounds: the first that fits into the time that is left.
_FINALS_THAT_FIT = (
    (NUM_FINALISTS, MIN_ROUNDS),
    (NUM_FINALISTS - 1, MIN_ROUNDS),
    (1, MIN_ROUNDS),
    (1, 1),
)


class CannotRun(Exception):  # noqa: N818 (says what is the case, and never leaves this package)
    """A setting cannot be prepared or run; the text says why."""


class Measurer(Protocol):
    """What runs the model."""

    def preparation_s(self, setting: Setting) -> float:
        """Seconds that :meth:`prepare` will take, as far as can be told; 0 if it is done."""

    def prepare(self, setting: Setting) -> None:
        """Lowers the model for the setting. Raises CannotRun."""

    def measure(self, setting: Setting, *, seconds: float) -> Measurement:
        """Runs it under load for about so long. Raises CannotRun."""


@dataclass(frozen=True)
class Plan:
    """What to do, within which time.

    Attributes:
        space: What there is.
        search: What proposes.
        objective: What is wanted.
        budget_s: Seconds for everything.
        is_open: Requests come at a rate of their own.
    """

    space: SearchSpace
    search: Search
    objective: Objective
    budget_s: float
    is_open: bool = False


@dataclass
class Course:
    """What a tuning has seen.

    Attributes:
        measured: Measurements of each setting, in order.
        reasons: Why a setting has none.
        finalists: Those that were compared in turns.
        verdict: What came of it.
        is_met: Whether what is recommended kept to the objective's limit, where it has one.
        notes: What is worth knowing, in words.
        elapsed_s: How long it took.
    """

    measured: dict[Setting, list[Measurement]] = field(default_factory=dict)
    reasons: dict[Setting, str] = field(default_factory=dict)
    finalists: tuple[Setting, ...] = ()
    verdict: Verdict | None = None
    is_met: bool = True
    notes: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    def trials(self) -> tuple[Trial, ...]:
        """One for each setting, in the order of looking."""
        settings = dict.fromkeys([*self.measured, *self.reasons])
        return tuple(
            Trial(
                setting=one,
                measurements=tuple(self.measured.get(one, ())),
                is_finalist=one in self.finalists,
                reason=self.reasons.get(one, ""),
            )
            for one in settings
        )


class Tuner:
    """One tuning.

    Args:
        plan: What to do.
        measurer: What runs the model.
        now: Seconds since some moment.
        on_progress: Told what is being done, and the share of the time that is gone.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        measurer: Measurer,
        now: Callable[[], float],
        on_progress: Callable[[str, float], object] = lambda text, share: None,
    ) -> None:
        self._plan = plan
        self._measurer = measurer
        self._now = now
        self._on_progress = on_progress
        self._start = now()
        self._seconds = min(
            _LONGEST_S, max(_SHORTEST_S, plan.budget_s * (1 - _FINALS) / _TRIALS_HOPED_FOR)
        )
        self._costs: dict[Setting, float] = {}
        self._took_s: dict[Setting, float] = {}
        self._last_s = 0.0
        self._first = plan.space.stock[0]
        self._late: dict[Setting, str] = {}
        self._is_done = False
        self.course = Course()

    def run(self) -> Course:
        """Looks, compares, judges.

        Raises:
            CannotRun: The model itself, stock, does not run.
        """
        plan, course = self._plan, self.course
        # The one that everything is compared with, and that tells how long calls take.
        first = self._first
        self._look_at(first)
        if not math.isfinite(self._costs[first]):
            raise CannotRun(course.reasons[first])
        if self._elapsed_s() + self._last_s < plan.budget_s * _AGAIN:
            # What is expected of other settings rests on this one, and a stall may have met it.
            self._look_at(first)
        plan.search.tell(first, self._costs[first])
        self._explore()
        self._note_what_was_late()
        self._finish()
        course.elapsed_s = self._elapsed_s()
        return course

    def _explore(self) -> None:
        until = self._plan.budget_s * (1 - _FINALS)
        while self._elapsed_s() + self._last_s < until:
            setting = self._plan.search.ask()
            if setting is None:
                self._is_done = not self._late
                return
            needed = self._measurer.preparation_s(setting)
            # Before any streams have run there is nothing to compare with stock.
            is_first = all(one.is_stock for one in self.course.measured)
            left = (self._plan.budget_s if is_first else until) - self._elapsed_s()
            if needed > 0 and needed + self._seconds > left:
                what = f"{setting.backend} for teams of {setting.team_size}"
                self._leave_out(setting, f"lowering takes about {needed:.0f} s", left, what=what)
            elif (calls := self._calls_s(setting)) > left:
                what = f"batches of {setting.batch_size}"
                self._leave_out(setting, f"a few calls take about {calls:.0f} s", left, what=what)
            elif setting not in self._costs:
                self._look_at(setting)
            self._plan.search.tell(setting, self._costs[setting])

    def _calls_s(self, setting: Setting) -> float:
        """What the calls of a trial take, going by the fastest of stock's."""
        stock = [
            measurement
            for one, taken in self.course.measured.items()
            if one.is_stock
            for measurement in taken
        ]
        call_s = setting.batch_size / max(1e-12, *(one.items_per_s for one in stock))
        if setting.is_stock:
            return _CALLS_OF_STOCK * call_s
        return _CALLS_OF_TRIAL * call_s * max(1.0, self._first.team_size / setting.team_size)

    def _leave_out(self, setting: Setting, why: str, left_s: float, *, what: str) -> None:
        self._costs[setting] = math.inf
        reason = f"not tried: {why}, and {max(0.0, left_s):.0f} s were left"
        self.course.reasons[setting] = reason
        self._late[setting] = what

    def _note_what_was_late(self) -> None:
        space, budget_s = self._plan.space, self._plan.budget_s
        tried = {one.backend for one in self.course.measured}
        failed = {one.backend for one in self.course.reasons if one not in self._late}
        late = list(self._late.values())
        late += [
            backend
            for backend in space.backends
            if backend not in tried | failed | {one.backend for one in self._late}
        ]
        if late and not self._is_done:
            self.course.notes.append(
                f"not tried for want of time: {', '.join(dict.fromkeys(late))}; a larger budget_s "
                f"than {budget_s:g} has room for more"
            )
        self.course.notes.append(
            f"{len(self.course.measured)} of {len(space)} settings were measured"
        )

    def _look_at(self, setting: Setting) -> None:
        self._tell(f"{setting}")
        try:
            self._measurer.prepare(setting)
            began = self._now()
            measurement = self._measurer.measure(setting, seconds=self._seconds)
        except CannotRun as error:
            if setting not in self._costs:
                self._costs[setting] = math.inf
                self.course.reasons[setting] = str(error)
            return
        self._took_s[setting] = self._last_s = self._now() - began
        self.course.measured.setdefault(setting, []).append(measurement)
        cost = self._plan.objective.cost(measurement, is_open=self._plan.is_open)
        self._costs[setting] = min(cost, self._costs.get(setting, math.inf))

    def _finish(self) -> None:
        plan, course = self._plan, self.course
        finalists, num_rounds = self._finals()
        rounds = {one: course.measured[one][-1:] for one in finalists}
        if len(finalists) > 1 and num_rounds > 0:
            started, done = self._now(), [0]

            def has_time() -> bool:
                each = (self._now() - started) / max(1, done[0] // len(finalists))
                return self._elapsed_s() + each <= plan.budget_s

            def measure(setting: Setting) -> Measurement | None:
                self._tell(f"comparing in turns: {setting}")
                done[0] += 1
                try:
                    return self._measurer.measure(setting, seconds=self._seconds)
                except CannotRun as error:
                    if setting.is_stock:
                        raise
                    course.notes.append(f"failed when it was compared: {error}")
                    return None

            rounds = run_rounds(
                finalists, measure=measure, has_time=has_time, min_rounds=num_rounds
            )
            course.measured.update(rounds)
        course.finalists = tuple(rounds)
        course.verdict = judge(rounds, objective=plan.objective, is_open=plan.is_open)
        self._note_limits()

    def _finals(self) -> tuple[list[Setting], int]:
        """Who is compared, and for how many rounds at least, so that it fits into the time.

        Without time for any, what was seen when looking has to do.
        """
        left = self._plan.budget_s - self._elapsed_s()
        for count, num_rounds in _FINALS_THAT_FIT:
            finalists = choose_finalists(self._costs, stock=self._plan.space.stock, count=count)
            if num_rounds * sum(self._took_s[one] for one in finalists) <= left:
                return finalists, num_rounds
        return finalists, 0

    def _note_limits(self) -> None:
        plan, verdict = self._plan, self.course.verdict
        if verdict is None:
            return
        measured: Sequence[Measurement] = self.course.measured[verdict.recommended]
        self.course.is_met = all(plan.objective.is_met(one) for one in measured)
        if not self.course.is_met:
            self.course.notes.append(
                f"nothing met {plan.objective} in every round; what is recommended came closest"
            )

    def _elapsed_s(self) -> float:
        return self._now() - self._start

    def _tell(self, text: str) -> None:
        self._on_progress(text, min(1.0, self._elapsed_s() / self._plan.budget_s))
