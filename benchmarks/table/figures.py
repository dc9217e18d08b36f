"""What the rows say: ratios taken round by round, who is ahead, geometric means, targets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import Spread, spread
from benchmarks.table.entrants import (
    COMPILED,
    CORESTREAM,
    IPEX,
    IPEX_STREAMS,
    ONNX_RUNTIME,
    OPENVINO,
    STOCK,
)

RowResult = dict[str, Any]

# Two that are nearer than this are level: so much lies between two sittings of the same thing.
TIE = 0.02


def seconds(row: RowResult, name: str) -> list[float]:
    """The median call of each round; empty if the entrant's result does not count."""
    entrant = row.get("entrants", {}).get(name, {})
    return list(entrant.get("seconds", [])) if entrant.get("status") == "ok" else []


def names(row: RowResult) -> list[str]:
    """The entrants whose results count."""
    return [name for name in row.get("entrants", {}) if seconds(row, name)]


def gain(row: RowResult, over: str, *, name: str = CORESTREAM) -> Spread | None:
    """How many times as fast `name` is as `over`, round by round; None if one is missing."""
    own, other = seconds(row, name), seconds(row, over)
    if not own or not other:
        return None
    return spread([theirs / ours for theirs, ours in zip(other, own, strict=False)])


def best(row: RowResult, among: Iterable[str] | None = None) -> str | None:
    """The fastest entrant beside corestream, of all or of `among`."""
    peers = names(row) if among is None else [name for name in among if seconds(row, name)]
    peers = [name for name in peers if name != CORESTREAM]
    return min(peers, key=lambda name: statistics.median(seconds(row, name)), default=None)


def is_ahead(row: RowResult, name: str) -> bool:
    """Whether `name` is faster than corestream by more than a tie."""
    ratio = gain(row, name)
    return name != CORESTREAM and ratio is not None and ratio.median < 1 - TIE


def rate(row: RowResult, name: str) -> Spread:
    """Items per second."""
    return spread([row["batch"] / value for value in seconds(row, name)])


def share_of_peak(row: RowResult, name: str) -> float | None:
    """The share that useful operations have of the fastest matrix product of the same rounds."""
    own, peaks = seconds(row, name), row.get("peak", [])
    if not own or not peaks:
        return None
    shares = [
        row["batch"] * row["flops"] / value / peak for value, peak in zip(own, peaks, strict=False)
    ]
    return statistics.median(shares)


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


@dataclass(frozen=True, slots=True)
class Mean:
    """A geometric mean over rows, and what it is to reach."""

    name: str
    value: float
    count: int
    target: float | None

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "PASS" if self.value >= self.target else "FAIL"


# (name, whom corestream is compared with in a row, target for throughput)
_AGAINST: tuple[tuple[str, Callable[[RowResult], str | None], float], ...] = (
    ("the best peer of each row", best, 1.0),
    ("IPEX 2.8, the better of two ways", lambda row: best(row, (IPEX, IPEX_STREAMS)), 1.25),
    ("torch.compile with freezing", lambda row: best(row, (COMPILED,)), 1.3),
    ("stock eager", lambda row: best(row, (STOCK,)), 2.2),
)


def means(rows: Sequence[RowResult], *, mode: str) -> list[Mean]:
    """The foot of the table: corestream over others, over all rows of the mode."""
    own = [row for row in rows if row["mode"] == mode]
    found = []
    for name, against, target in _AGAINST:
        ratios = [ratio for row in own if (ratio := _median_gain(row, against(row))) is not None]
        if ratios:
            wanted = target if mode == "throughput" else None
            found.append(Mean(name, geometric_mean(ratios), len(ratios), wanted))
    return found


def _median_gain(row: RowResult, over: str | None) -> float | None:
    ratio = gain(row, over) if over is not None else None
    return ratio.median if ratio is not None else None


@dataclass(frozen=True, slots=True)
class RowTarget:
    """What corestream is to reach in a row: so many times as fast as the best of `against`."""

    against: tuple[str, ...] | None
    at_least: float

    def is_met(self, row: RowResult) -> bool | None:
        """None if nobody is there to compare with."""
        reached = _median_gain(row, best(row, self.against))
        return reached >= self.at_least if reached is not None else None


def target(row: RowResult) -> RowTarget | None:
    """The target of the row's kind and mode; None for rows that have none of their own."""
    if row["mode"] == "latency":
        return RowTarget((STOCK, COMPILED, IPEX, ONNX_RUNTIME), 1 - TIE)
    if row["kind"] == "cnn":
        return RowTarget(None, 1 - TIE)
    if row["kind"] == "transformer":
        return RowTarget((OPENVINO,), 0.97)
    return None
