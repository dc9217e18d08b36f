"""The best settings in turns, and what may be said of the difference to stock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from corestream.measure.timing import MIN_ROUNDS, Timing, is_faster, speedup
from corestream.tuning.objective import Objective
from corestream.tuning.setting import Measurement, Setting

MOST_ROUNDS = 9

# Settings this close are equally good; of them the one with least cores and the smallest batch.
_TIE = 0.01


@dataclass(frozen=True)
class Verdict:
    """What came of the finals.

    Attributes:
        recommended: What to use.
        streams: The best with streams, None if none ran.
        text: How it compares with stock, in words.
        is_beyond_noise: Whether the difference to stock is more than noise.
    """

    recommended: Setting
    streams: Setting | None
    text: str
    is_beyond_noise: bool


def choose_finalists(
    costs: Mapping[Setting, float], *, stock: Sequence[Setting], count: int
) -> list[Setting]:
    """The best of those with streams, and the best of stock."""
    ranked = sorted((cost, one) for one, cost in costs.items() if cost < float("inf"))
    with_streams = [one for _, one in ranked if not one.is_stock][:count]
    best_stock = [one for _, one in ranked if one.is_stock][:1] or list(stock[:1])
    return [*best_stock, *with_streams]


def run_rounds(
    finalists: Sequence[Setting],
    *,
    measure: Callable[[Setting], Measurement | None],
    has_time: Callable[[], bool],
    min_rounds: int = MIN_ROUNDS,
) -> dict[Setting, list[Measurement]]:
    """Measures all in turns, A B C A B C, while there is time; so many rounds at least.

    One that fails, for which `measure` gives None, is out.
    """
    taken: dict[Setting, list[Measurement]] = {one: [] for one in finalists}
    for number in range(MOST_ROUNDS):
        if number >= min_rounds and not has_time():
            break
        for one in list(taken):
            measurement = measure(one)
            if measurement is None:
                del taken[one]
            else:
                taken[one].append(measurement)
    return taken


def judge(
    taken: Mapping[Setting, Sequence[Measurement]], *, objective: Objective, is_open: bool
) -> Verdict:
    """The verdict over measurements that were taken in turns, n-th with n-th."""
    timings = {
        one: Timing(tuple(objective.cost(each, is_open=is_open) for each in rounds))
        for one, rounds in taken.items()
        if rounds
    }
    with_streams = [one for one in timings if not one.is_stock]
    stock = next(one for one in timings if one.is_stock)
    if not with_streams:
        return Verdict(stock, None, "no setting with streams could be measured", False)
    best = _best(with_streams, timings)
    text, is_better, is_worse = _compare(timings[best], timings[stock], objective=objective)
    recommended = best if is_better else stock
    return Verdict(recommended, best, text, is_better or is_worse)


def _best(settings: Sequence[Setting], timings: Mapping[Setting, Timing]) -> Setting:
    fastest = min(settings, key=lambda one: timings[one].median_s)
    ties = [one for one in settings if speedup(timings[fastest], timings[one]) < 1 + _TIE]
    return min(ties, key=lambda one: (one.num_cores, one.batch_size, one.num_streams))


def _compare(best: Timing, stock: Timing, *, objective: Objective) -> tuple[str, bool, bool]:
    ratio = speedup(best, stock)
    if best.rounds < MIN_ROUNDS:
        text = f"{_times(ratio)} stock in {best.rounds} round, too few to tell it from noise"
        return f"{text}: stay with stock, or raise budget_s", False, False
    quotients = sorted(
        theirs / max(ours, 1e-12)
        for ours, theirs in zip(best.samples_s, stock.samples_s, strict=True)
    )
    spread = f"{quotients[0]:.3g} to {quotients[-1]:.3g} in {len(quotients)} rounds"
    if is_faster(best, stock):
        return f"{_gain(ratio, objective=objective)} ({spread})", True, False
    if is_faster(stock, best):
        return f"streams reach {_times(ratio)} of stock ({spread}): stay with stock", False, True
    return f"no difference to stock beyond noise ({spread}): stay with stock", False, False


def _gain(ratio: float, *, objective: Objective) -> str:
    if objective.kind == "p99" and ratio > 1e3:
        return f"stock does not meet {objective}"
    if objective.kind == "latency":
        return f"{_times(ratio)} as fast as stock"
    return f"{_times(ratio)} the throughput of stock"


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times"
