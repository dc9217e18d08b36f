"""The demo's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Measurement:
    """One engine under one load.

    Attributes:
        engine: "stock torch" or "corestream".
        users: How many asked at the same time.
        requests_per_s: Answers a second.
        p50_ms: Half the requests took at most this many milliseconds.
        p99_ms: 99 of 100 did.
        memory_mb: The process's resident memory right after.
        max_difference: Of any number of an answer, from what a user alone got.
    """

    engine: str
    users: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    memory_mb: float
    max_difference: float


@dataclass(frozen=True)
class Neighbour:
    """A sentence and the cosine of the angle between its vector and the query's."""

    sentence: str
    cosine: float


def summarize(engine: str, users: int, *, rounds: list[dict[str, Any]]) -> Measurement:
    """One measurement of what a worker reported in several rounds."""
    latencies_ms = 1e3 * np.concatenate([each["latencies_s"] for each in rounds])
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return Measurement(
        engine=engine,
        users=users,
        requests_per_s=len(latencies_ms) / sum(each["seconds"] for each in rounds),
        p50_ms=float(p50),
        p99_ms=float(p99),
        memory_mb=max(each["memory_mb"] for each in rounds),
        max_difference=max(each["max_difference"] for each in rounds),
    )


def nearest(embeddings: np.ndarray, sentences: list[str], *, count: int) -> list[Neighbour]:
    """The sentences nearest to the last one, nearest first; the vectors have length 1."""
    cosines = embeddings[:-1] @ embeddings[-1]
    order = np.argsort(-cosines)[:count]
    return [Neighbour(sentences[index], float(cosines[index])) for index in order]
