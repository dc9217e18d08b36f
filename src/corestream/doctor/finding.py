"""One line of a diagnosis: what was looked at, how it stands, why it matters, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How a finding stands, from good to bad.

    OK needs no reading. NOTE is worth knowing: a property of the machine, or something that could
    not be seen. WARN costs speed, or will under load. FAIL is broken.

    Example:
        >>> max(Level.OK, Level.WARN, Level.NOTE).name
        'WARN'

    Thread-safe: values that never change.
    """

    OK = 0
    NOTE = 1
    WARN = 2
    FAIL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a diagnosis.

    Attributes:
        group: The heading under which it stands, such as `CPUs`.
        title: Its name, the same on every machine; unique in a diagnosis.
        level: How it stands.
        value: What was found, in a few words.
        explanation: Why that is so and what follows from it; may be empty.
        fix: What to do; empty if there is nothing to do.

    Example:
        >>> Finding(group="CPUs", title="CPU quota", value="none").level.name
        'OK'

    Thread-safe: a value that never changes.
    """

    group: str
    title: str
    value: str
    level: Level = Level.OK
    explanation: str = ""
    fix: str = ""


def count_of(number: int, thing: str) -> str:
    """Return `1 thread` or `3 threads`.

    Args:
        number: How many.
        thing: What, in the singular.
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level of some findings; OK if there are none.

    Args:
        findings: What was found.
    """
    return max((finding.level for finding in findings), default=Level.OK)
