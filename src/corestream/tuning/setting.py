"""One way to run a model, and what it did when it was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

STOCK = "stock"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Setting:
    """One way to run a model.

    Attributes:
        num_streams: How many streams; for stock PyTorch 1.
        team_size: Cores of each; for stock PyTorch its intra-op threads, which are not pinned.
        batch_size: Items that a stream runs at a time.
        backend: What the model is lowered with; "stock": the model as it is, unpinned; "given": it
            was lowered already.

    Example:
        >>> str(Setting(num_streams=4, team_size=4, batch_size=1, backend="aotinductor"))
        'streams=4 team_size=4 batch=1 backend=aotinductor'

    Thread-safe: a value that never changes.
    """

    num_streams: int
    team_size: int
    batch_size: int
    backend: str

    @property
    def is_stock(self) -> bool:
        """Whether it is the model as it is, without streams.

        Thread-safe; never changes.
        """
        return self.backend == STOCK

    @property
    def num_cores(self) -> int:
        """Cores that its streams own.

        Thread-safe; never changes.
        """
        return self.num_streams * self.team_size

    def __str__(self) -> str:
        if self.is_stock:
            return f"stock threads={self.team_size} batch={self.batch_size}"
        return (
            f"streams={self.num_streams} team_size={self.team_size} batch={self.batch_size} "
            f"backend={self.backend}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a setting did under load, once.

    Attributes:
        items_per_s: Throughput, in items of the batch.
        p50_ms: Median latency of a request.
        p99_ms: The latency that one request in a hundred exceeded.
        is_overrun: Requests came faster than they were answered.
    """

    items_per_s: float
    p50_ms: float
    p99_ms: float
    is_overrun: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A setting with all its measurements.

    Attributes:
        setting: What was measured.
        measurements: One for each time; none if it failed or was left out.
        is_finalist: It was measured in turns with the best others.
        reason: Why there is no measurement, in words.

    Thread-safe: a value that never changes.
    """

    setting: Setting
    measurements: tuple[Measurement, ...] = ()
    is_finalist: bool = False
    reason: str = ""

    @property
    def items_per_s(self) -> float:
        """The median of its throughputs."""
        return self._median(lambda one: one.items_per_s)

    @property
    def p50_ms(self) -> float:
        """The median of its median latencies."""
        return self._median(lambda one: one.p50_ms)

    @property
    def p99_ms(self) -> float:
        """The median of its 99th percentiles."""
        return self._median(lambda one: one.p99_ms)

    @property
    def spread(self) -> float:
        """How far its throughputs are apart: (largest - smallest) / median."""
        rates = [one.items_per_s for one in self.measurements]
        return (max(rates) - min(rates)) / max(statistics.median(rates), 1e-12)

    def _median(self, of: Callable[[Measurement], float]) -> float:
        return statistics.median(of(one) for one in self.measurements)

    @classmethod
    def from_dict(cls, values: Any) -> Trial:
        """What `dataclasses.asdict` gave, after a way through JSON."""
        return cls(
            setting=Setting(**values["setting"]),
            measurements=tuple(Measurement(**one) for one in values["measurements"]),
            is_finalist=values["is_finalist"],
            reason=values["reason"],
        )

    def to_dict(self) -> dict[str, Any]:
        """As values for JSON."""
        return asdict(self)
