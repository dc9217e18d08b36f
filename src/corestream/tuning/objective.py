"""What is wanted of a setting, as one number to make small."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from corestream.tuning.setting import Measurement

_P99 = re.compile(r"p99\s*<=?\s*([0-9.]+)\s*(ms|s|us)?", re.IGNORECASE)
_MS = {"ms": 1.0, "s": 1e3, "us": 1e-3}

# What exceeds the limit is worse than anything that does not, and the worse the more it does.
_PENALTY = 1e6


@dataclass(frozen=True, slots=True)
class Objective:
    """What is wanted.

    Attributes:
        kind: The most throughput; the least latency; the most throughput under a limit of the p99.
        limit_ms: That limit.
    """

    kind: Literal["throughput", "latency", "p99"]
    limit_ms: float = math.inf

    @classmethod
    def parse(cls, text: object) -> Objective:
        """What `tune(objective=...)` takes.

        Raises:
            ValueError: It is something else.
        """
        if text == "throughput":
            return cls("throughput")
        if text == "latency":
            return cls("latency")
        match = _P99.fullmatch(text.strip()) if isinstance(text, str) else None
        limit = _number(match[1]) * _MS[(match[2] or "ms").lower()] if match else 0.0
        if not limit > 0:
            raise ValueError(
                f'objective must be "throughput", "latency" or a limit such as "p99<=20 ms"; got '
                f"{text!r}; choose one"
            )
        return cls("p99", limit)

    def __str__(self) -> str:
        return f"p99<={self.limit_ms:g} ms" if self.kind == "p99" else self.kind

    def cost(self, measured: Measurement, *, is_open: bool = False) -> float:
        """The number to make small; its ratios are those of what is wanted.

        Args:
            measured: What came of a measurement.
            is_open: Requests came at a rate of their own, so that throughput is no question.
        """
        if self.kind == "latency":
            value = measured.p50_ms
        elif self.kind == "p99" and is_open:
            value = measured.p99_ms
        else:
            value = 1.0 / max(measured.items_per_s, 1e-12)
        if self.kind == "p99" and measured.p99_ms > self.limit_ms:
            return _PENALTY * (measured.p99_ms / self.limit_ms)
        return _PENALTY * measured.p99_ms if measured.is_overrun else value

    def is_met(self, measured: Measurement) -> bool:
        """Whether the limit, if there is one, is kept."""
        return measured.p99_ms <= self.limit_ms and not measured.is_overrun


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # 1.2.3
        return 0.0
