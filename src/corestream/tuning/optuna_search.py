"""Large spaces: Optuna's tree-structured Parzen estimator, then the neighbourhood of the best."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from corestream.tuning.search import Refinement
from corestream.tuning.setting import STOCK, Setting
from corestream.tuning.space import SearchSpace

# Suggestions that were seen before cost no measurement; so many in a row end the first part.
_MOST_REPEATS = 25
_TRIALS_OF_SPACE = 0.1
_MOST_TRIALS = 60
# What failed or was left out is as bad as this, in logarithms of the cost.
_FAILED = 50.0


class OptunaSearch:
    """Ask and tell over Optuna's study, begun with the coarse net's corners.

    Args:
        space: What there is.
        seed: Two searches with one seed that are told the same ask the same.
    """

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._space = space
        self._teams = sorted({team for _, team in space.shapes})
        self._refinement = Refinement(space)
        self._asked: dict[Setting, Any] = {}
        self._left = min(_MOST_TRIALS, max(20, int(len(space) * _TRIALS_OF_SPACE)))
        with _quiet():
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=12)
            self._study = optuna.create_study(sampler=sampler)
            for setting in space.coarse:
                self._study.enqueue_trial(self._parameters(setting))
        self._left += len(space.coarse)

    @property
    def _distributions(self) -> dict[str, BaseDistribution]:
        deepest = max(self._depth(team) for team in self._teams)
        return {
            "backend": CategoricalDistribution([*self._space.backends, STOCK]),
            "team": IntDistribution(0, len(self._teams) - 1),
            "halvings": IntDistribution(0, deepest),
            "batch": IntDistribution(0, len(self._space.batch_sizes) - 1),
        }

    def ask(self) -> Setting | None:
        """The next setting; None when the neighbours of the best are known."""
        repeats = 0
        while self._left > 0 and repeats < _MOST_REPEATS:
            with _quiet():
                trial = self._study.ask(self._distributions)
            setting = self._setting(trial.params)
            if (known := self._refinement.costs.get(setting)) is None:
                self._left -= 1
                self._asked[setting] = trial
                return setting
            repeats += 1
            with _quiet():
                self._study.tell(trial, _value(known))
        self._left = 0
        return self._refinement.ask()

    def tell(self, setting: Setting, cost: float) -> None:
        """What it cost."""
        self._refinement.tell(setting, cost)
        trial = self._asked.pop(setting, None)
        if trial is not None:
            with _quiet():
                self._study.tell(trial, _value(cost))

    def _streams(self, team: int) -> list[int]:
        """From most to fewest."""
        return sorted((s for s, t in self._space.shapes if t == team), reverse=True)

    def _depth(self, team: int) -> int:
        return len(self._streams(team)) - 1

    def _setting(self, parameters: dict[str, Any]) -> Setting:
        if parameters["backend"] == STOCK:
            stock = self._space.stock
            index: int = min(parameters["batch"], len(stock) - 1)
            return stock[index]
        team = self._teams[parameters["team"]]
        streams = self._streams(team)[min(parameters["halvings"], self._depth(team))]
        size = self._space.batch_sizes[parameters["batch"]]
        if self._space.request_items is not None:
            size = -(-self._space.request_items // streams)
        return Setting(
            num_streams=streams, team_size=team, batch_size=size, backend=parameters["backend"]
        )

    def _parameters(self, setting: Setting) -> dict[str, Any]:
        """What gives the setting; the inverse of :meth:`_setting`."""
        sizes = self._space.batch_sizes
        batch = sizes.index(setting.batch_size) if setting.batch_size in sizes else 0
        if setting.is_stock:
            return {"backend": STOCK, "team": 0, "halvings": 0, "batch": batch}
        return {
            "backend": setting.backend,
            "team": self._teams.index(setting.team_size),
            "halvings": self._streams(setting.team_size).index(setting.num_streams),
            "batch": batch,
        }


def _value(cost: float) -> float:
    # Costs span decades, and the estimator models densities of ranks and values.
    return math.log(cost) if math.isfinite(cost) else _FAILED


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna says each study and trial aloud; its level is the whole process's, so put it back."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
