"""`cpu_budget(root)`: how many CPUs this process may keep busy, and why."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from corestream.cpu import override
from corestream.cpu.allowed import read_allowed
from corestream.cpu.cgroup import CgroupFolder, cgroup_folders
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.system_files import SystemFiles
from corestream.cpu.topology import is_live

_V2_QUOTA = re.compile(r"(max|[0-9]{1,18})(?:\s+([0-9]{1,18}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class CPUBudget:
    """How many CPUs a process may keep busy.

    `count` is min(len(allowed), floor(quota)), at least 1; `quota` is the cgroup CPU quota in
    CPUs, None without one; `reasons` tell in words how the number came about.

    Example:
        >>> budget = cpu_budget()
        >>> 1 <= budget.count <= len(budget.allowed)
        True

    Thread-safe: a value that never changes; holds the GIL.
    """

    count: int
    allowed: CPUSet
    quota: float | None
    reasons: tuple[str, ...]


def cpu_budget(root: str | os.PathLike[str] = "/") -> CPUBudget:
    """Return how many CPUs this process may keep busy, with the reasons for the number.

    A container limited by quota (`docker --cpus`, a Kubernetes limit) sees every CPU of its
    host; starting a thread on each gets all of them stopped for most of every period. The quota
    is rounded down: one thread too many stops the whole team.

    Args:
        root: The folder that stands for `/`.

    Returns:
        The budget, read anew at each call: a limit can change while the process runs.

    Example:
        >>> print(*cpu_budget().reasons, sep="; ")
        affinity mask at start-up: ...; CPU budget: ...

    Source: Documentation/scheduler/sched-bwc.rst, admin-guide/cgroup-v2.rst of Linux.

    Thread-safe; holds the GIL, except inside the reads.
    """
    return read_budget(SystemFiles(root))


def read_budget(files: SystemFiles) -> CPUBudget:
    """Return the CPU budget of the machine behind `files`.

    Args:
        files: The machine.

    Thread-safe for one `files` each; holds the GIL, except inside the reads.
    """
    allowed = read_allowed(files)
    available = len(allowed.cpus)
    pretending = is_live(files.root) and override.current() is not None
    quota, quota_reasons = (None, []) if pretending else _read_quota(files)
    if quota is None or quota >= available:
        count, summary = available, f"CPU budget: {available}, the allowed CPUs"
    elif quota >= 1:
        count = int(quota)
        summary = f"CPU budget: {count}, the quota of {quota:g} CPUs rounded down"
    else:
        count, summary = 1, f"CPU budget: 1, the least possible, over the quota of {quota:g} CPUs"
    return CPUBudget(
        count=count,
        allowed=allowed.cpus,
        quota=quota,
        reasons=(*allowed.reasons, *quota_reasons, *files.notes, summary),
    )


def _read_quota(files: SystemFiles) -> tuple[float | None, list[str]]:
    """Return the tightest quota in CPUs over every ancestor, and a reason for each one found."""
    quotas: list[float] = []
    reasons: list[str] = []
    for folder in cgroup_folders(files, "cpu"):
        read = _read_v2_quota if folder.version == 2 else _read_v1_quota
        found = read(files, folder)
        if found is None:
            continue
        path, quota_us, period_us = found
        quotas.append(quota_us / period_us)
        reasons.append(
            f"cgroup quota {path}: {quotas[-1]:g} CPUs ({quota_us} us in {period_us} us)"
        )
    if not quotas:
        return None, ["no cgroup quota"]
    return min(quotas), reasons


def _read_v2_quota(files: SystemFiles, folder: CgroupFolder) -> tuple[str, int, int] | None:
    path = f"{folder.path}/cpu.max"
    text = files.read(path)
    if text is None:
        return None
    match = _V2_QUOTA.fullmatch(text)
    if match is None or "0" in match.groups():
        files.note(path, f"not a quota: {text[:40]!r}")
        return None
    # The kernel always writes the period; emulations may leave it out, and 100 ms is the default.
    return None if match[1] == "max" else (path, int(match[1]), int(match[2] or 100_000))


def _read_v1_quota(files: SystemFiles, folder: CgroupFolder) -> tuple[str, int, int] | None:
    path = f"{folder.path}/cpu.cfs_quota_us"
    quota_us = files.read_int(path)
    if quota_us is None or quota_us == -1:
        return None
    period_us = files.read_int(f"{folder.path}/cpu.cfs_period_us", expected=True)
    if period_us is None or quota_us <= 0 or period_us <= 0:
        files.note(path, f"not a quota: {quota_us} us in {period_us} us")
        return None
    return path, quota_us, period_us
