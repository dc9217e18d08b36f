"""Subjects that take turns: A B A B, in several generations of fresh processes."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.machine import core_ids
from benchmarks.measure import Effort, interleave
from benchmarks.subject import Subject


@dataclass(frozen=True, slots=True)
class Entrant:
    """How to make a subject's process."""

    factory: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> Subject:
        return Subject(self.factory, environ=self.environ, **self.arguments)


def compete(
    entrants: Mapping[str, Entrant], *, effort: Effort, request: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """What each entrant answered, turn by turn; equal indexes are of the same round.

    All processes of a generation live at once, so that rounds follow one another within
    seconds; the ones whose turn it is not are blocked on a read.
    """
    answers: dict[str, list[Any]] = {name: [] for name in entrants}
    for generation in range(effort.processes):
        with ExitStack() as stack:
            turns = {}
            for name, entrant in entrants.items():
                _show(f"{generation + 1} of {effort.processes}: {name} {dict(entrant.arguments)}")
                subject = stack.enter_context(entrant.start())
                turns[name] = lambda subject=subject: subject.measure(**request)
            for name, results in interleave(turns, rounds=effort.rounds).items():
                answers[name] += results
    return answers


def _show(text: str) -> None:
    """Tells someone at a terminal what the minutes go into."""
    if sys.stderr.isatty():
        print(f"starting {text}", file=sys.stderr, flush=True)


def medians(turns: list[list[float]]) -> list[float]:
    """The median of each turn's samples."""
    return [statistics.median(samples) for samples in turns]


def machine_peak(dtype: str, *, effort: Effort) -> float:
    """The fastest matrix product, in operations per second, of a process that has all cores."""
    entrant = Entrant("benchmarks.machine:peak_subject", {"num_threads": len(core_ids())})
    request = {"kinds": [dtype], "seconds": effort.seconds}
    answers = compete({"": entrant}, effort=replace(effort, processes=1), request=request)
    return max(float(answer[dtype]) for answer in answers[""])
