"""Ask and tell: which setting to measure next, given what the others cost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from corestream.tuning.setting import Setting
from corestream.tuning.space import SearchSpace

# Up to so many settings are all tried, as far as the time goes.
EXHAUSTIVE_UP_TO = 60
# Beyond so many a search library finds its way with fewer trials than a net and its neighbours.
LARGE_FROM = 200

# How many of the best are looked around.
_WIDTH = 3


class Search(Protocol):
    """What proposes settings, one at a time, and learns what they cost."""

    def ask(self) -> Setting | None:
        """A setting that was not asked before; None when it knows enough."""

    def tell(self, setting: Setting, cost: float) -> None:
        """What it cost; infinite if it failed or was left out."""


class Refinement:
    """Looks around the best, until the neighbours of the three best are all known."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.costs: dict[Setting, float] = {}

    def ask(self) -> Setting | None:
        """The next neighbour of the best; where all are known, of the second, then the third."""
        finite = [one for one, cost in self.costs.items() if math.isfinite(cost)]
        for best in sorted(finite, key=lambda one: self.costs[one])[:_WIDTH]:
            for neighbour in self._space.neighbours(best):
                if neighbour not in self.costs:
                    return neighbour
        return None

    def tell(self, setting: Setting, cost: float) -> None:
        """What it cost."""
        self.costs[setting] = cost


class GridSearch:
    """A coarse net, then the neighbourhood of the best, then, in a small space, the rest.

    Args:
        space: What there is.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._refinement = Refinement(space)
        self._coarse = deque(space.coarse)
        self._rest: deque[Setting] = deque()
        if len(space) <= EXHAUSTIVE_UP_TO:
            self._rest.extend(space.settings)

    def ask(self) -> Setting | None:
        """The next setting; None when there is none worth a look."""
        known = self._refinement.costs
        return (
            _first_unknown(self._coarse, known)
            or self._refinement.ask()
            or _first_unknown(self._rest, known)
        )

    def tell(self, setting: Setting, cost: float) -> None:
        """What it cost."""
        self._refinement.tell(setting, cost)


def _first_unknown(queue: deque[Setting], known: Iterable[Setting]) -> Setting | None:
    while queue:
        setting = queue.popleft()
        if setting not in known:
            return setting
    return None


def make_search(space: SearchSpace, *, seed: int, notes: list[str]) -> Search:
    """The search that suits the size of the space; says in `notes` what it could not have."""
    if len(space) <= LARGE_FROM:
        return GridSearch(space)
    try:
        import optuna  # noqa: F401 (is it there?)
    except ModuleNotFoundError:
        notes.append(
            f"the space has {len(space)} settings, for which Optuna searches better than the grid "
            f"that was used; install corestream[search]"
        )
        return GridSearch(space)
    from corestream.tuning.optuna_search import OptunaSearch

    return OptunaSearch(space, seed=seed)
