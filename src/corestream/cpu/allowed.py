"""`allowed_cpus(root)`: the CPUs that this process may use."""

from __future__ import annotations

import os
from dataclasses import dataclass

from corestream.cpu import override
from corestream.cpu.cgroup import cgroup_folders
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.override import override_allowed
from corestream.cpu.procfs import read_status_affinity
from corestream.cpu.sysfs import read_online, read_topology
from corestream.cpu.system_files import SystemFiles
from corestream.cpu.topology import is_live

__all__ = ["Allowed", "allowed_cpus", "override_allowed", "read_allowed", "startup_affinity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The allowed CPUs, and in words how each source narrowed them."""

    cpus: CPUSet
    reasons: tuple[str, ...]


def allowed_cpus(root: str | os.PathLike[str] = "/") -> CPUSet:
    """Return start-up affinity mask ∩ cgroup cpuset ∩ online CPUs.

    The mask is the one that the process had when `corestream.cpu` was first imported: pinning
    the main thread later does not shrink the answer. cpuset and online CPUs are read anew.

    Args:
        root: The folder that stands for `/`; for a copy, the mask is the one stored in it.

    Returns:
        At least one CPU.

    Example:
        >>> bool(allowed_cpus())
        True

    Source: sched_setaffinity(2), cpuset(7), Documentation/admin-guide/cgroup-v2.rst of Linux.

    Thread-safe; holds the GIL, except inside the reads.
    """
    return read_allowed(SystemFiles(root)).cpus


def startup_affinity() -> CPUSet:
    """Return the affinity mask that the process had when `corestream.cpu` was first imported.

    An OpenMP runtime told to bind threads (`OMP_PROC_BIND`) narrows the main thread's mask when
    it loads; comparing this mask with the cpuset shows whether one did so earlier.

    Returns:
        The mask of the importing thread and of the main thread together.

    Example:
        >>> allowed_cpus() <= startup_affinity()
        True

    Thread-safe: a value that never changes; holds the GIL.
    """
    return _STARTUP_AFFINITY


def read_allowed(files: SystemFiles) -> Allowed:
    """Return the allowed CPUs of the machine behind `files`, with reasons.

    Args:
        files: The machine.

    Returns:
        At least one CPU: a source that contradicts the affinity mask is left out, and the
        reasons say so.

    Thread-safe for one `files` each; holds the GIL, except inside the reads.
    """
    live = is_live(files.root)
    current = override.current() if live else None
    if current is not None:
        reason = f"override_allowed: {current.allowed} ({len(current.allowed)})"
        return Allowed(cpus=current.allowed, reasons=(reason,))
    affinity = startup_affinity() if live else read_status_affinity(files)
    if affinity is None:
        affinity = read_topology(SystemFiles(files.root)).online
        reasons = [f"no affinity mask shown: all CPUs, {affinity} ({len(affinity)})"]
    else:
        reasons = [f"affinity mask at start-up: {affinity} ({len(affinity)})"]
    cpus = affinity
    for name, limit in (_read_cpuset(files), ("online CPUs", read_online(files))):
        if limit is None or cpus <= limit:
            continue
        if not cpus & limit:
            reasons.append(f"{name}: {limit}, which would leave no CPU: ignored")
            continue
        cpus &= limit
        reasons.append(f"{name}: {limit}, leaving {cpus} ({len(cpus)})")
    return Allowed(cpus=cpus, reasons=tuple(reasons))


def _read_cpuset(files: SystemFiles) -> tuple[str, CPUSet | None]:
    """Return the innermost cpuset that names CPUs; inner sets lie within outer ones."""
    for folder in cgroup_folders(files, "cpuset"):
        names = (
            ("cpuset.cpus.effective",)
            if folder.version == 2
            else ("cpuset.effective_cpus", "cpuset.cpus")
        )
        for name in names:
            cpus = files.read_cpus(f"{folder.path}/{name}")
            if cpus:
                return f"cgroup cpuset {folder.path}/{name}", cpus
    return "cgroup cpuset", None


def _capture_affinity() -> CPUSet:
    try:
        # The importing thread may be a pinned worker of someone else's, or the main thread may
        # have been pinned; neither mask alone is the process's.
        return CPUSet(os.sched_getaffinity(0) | os.sched_getaffinity(os.getpid()))
    except (AttributeError, OSError):  # no such call on macOS; some sandboxes refuse it
        return CPUSet(range(os.cpu_count() or 1))


_STARTUP_AFFINITY = _capture_affinity()
