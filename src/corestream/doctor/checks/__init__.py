"""The table of checks. Each is a pure function of the facts; None: it does not apply here."""

from __future__ import annotations

from collections.abc import Callable

from corestream.doctor.checks import (
    arithmetic,
    cpus,
    memory,
    openmp,
    places,
    software,
    teams,
    threads,
)
from corestream.doctor.facts import Facts
from corestream.doctor.finding import Finding

__all__ = ["CHECKS", "Check", "examine"]

Check = Callable[[Facts], Finding | None]

CHECKS: tuple[Check, ...] = (
    cpus.allowed,
    cpus.quota,
    cpus.throttling,
    cpus.masks,
    cpus.steal,
    cpus.governor,
    places.smt,
    places.numa,
    places.l3,
    places.core_types,
    threads.intra_op,
    threads.inter_op,
    threads.oversubscription,
    threads.inherited_count,
    threads.thread_limit,
    openmp.runtimes,
    openmp.affinity,
    teams.teams,
    teams.spinning,
    teams.streams,
    teams.fork,
    memory.malloc,
    memory.huge_pages,
    arithmetic.instruction_sets,
    *arithmetic.PRODUCTS,
    arithmetic.denormals,
    software.versions,
    software.parallel_info,
)
"""In the order of the screen."""


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Return what every check that applies has found, in the order of the screen.

    Args:
        facts: What was collected.

    Returns:
        At most one finding for each check.

    Example:
        >>> from corestream.doctor import diagnose
        >>> examine(diagnose(window_s=0).facts)[0].title
        'allowed CPUs'

    Thread-safe: a pure function that holds the GIL.
    """
    found = (check(facts) for check in CHECKS)
    return tuple(finding for finding in found if finding is not None)
