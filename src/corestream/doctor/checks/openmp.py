"""The OpenMP runtimes in the process, and the variables with which they move threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from corestream.cpu.openmp import AFFINITY_VARIABLES, affinity_settings
from corestream.doctor.facts import Facts
from corestream.doctor.finding import Finding, Level

GROUP = "OpenMP"


def runtime_kind(facts: Facts) -> str | None:
    """Return the kind of OpenMP runtime that torch's calls reach: a preloaded one wins."""
    paths = facts.process.openmp_runtimes or ()
    kinds = [path for path in paths if _is_preloaded(facts, path)] or list(paths)
    return Path(kinds[0]).name.split(".")[0].split("-")[0] if kinds else None


def _is_preloaded(facts: Facts, path: str) -> bool:
    return Path(path).name in facts.environ.get("LD_PRELOAD", "")


def runtimes(facts: Facts) -> Finding:
    """The OpenMP runtimes in the process, with their paths."""
    paths = facts.process.openmp_runtimes
    if not paths:
        hidden = "not visible: /proc/<pid>/maps cannot be read (same user, or root)"
        value = "none is mapped" if paths is not None else hidden
        if facts.torch is None and facts.process.kind == "fresh":
            value = "not known without torch"
        return Finding(group=GROUP, title="OpenMP runtimes", level=Level.NOTE, value=value)
    value = ", ".join(paths)
    if len(paths) == 1 or any(_is_preloaded(facts, path) for path in paths):
        if len(paths) > 1:
            value += " (a preloaded one serves all callers)"
        return Finding(group=GROUP, title="OpenMP runtimes", value=value)
    return Finding(
        group=GROUP,
        title="OpenMP runtimes",
        level=Level.WARN,
        value=f"{len(paths)}: {value}",
        explanation="each has threads of its own on the same CPUs, and a thread count of its own",
        fix="import torch first, or remove the package that brings the other (docs/openmp.md)",
    )


def affinity(facts: Facts) -> Finding:
    """OMP_PROC_BIND and the like: whether one of them narrowed the process."""
    title, kind = "affinity variables", runtime_kind(facts)
    known = facts.environ if facts.process.environ is not None else None
    if known is None:
        value = "not visible: /proc/<pid>/environ cannot be read (same user, or root)"
        return Finding(group=GROUP, title=title, level=Level.NOTE, value=value)
    effective, every = affinity_settings(known, kind), affinity_settings(known)
    if not every:
        value = f"none of {', '.join(AFFINITY_VARIABLES)} is set"
        return Finding(group=GROUP, title=title, value=value)
    ignored = [setting for setting in every if setting not in effective]
    mask = facts.process.mask
    before = facts.process.mask_before or facts.machine.topology.online
    names = " ".join(effective)
    fix = f"unset {_names(effective)}; corestream pins its own threads"
    if effective and mask is not None and mask < before:
        return Finding(
            group=GROUP,
            title=title,
            level=Level.FAIL,
            value=f"{names} narrowed the main thread from {before} to {mask}",
            explanation=(
                f"{kind or 'the OpenMP runtime'} pins the main thread when it loads or is first "
                f"used; threads and processes started after that inherit {mask}"
            ),
            fix=fix,
        )
    if effective:
        return Finding(
            group=GROUP,
            title=title,
            level=Level.WARN,
            value=f"{names}; the main thread's mask is whole",
            explanation="teams are pinned by the runtime; two processes pin to the same CPUs",
            fix=fix,
        )
    return Finding(
        group=GROUP,
        title=title,
        level=Level.NOTE,
        value=f"{' '.join(ignored)} is ignored by {kind}",
        fix=f"unset {_names(ignored)}, which does nothing here",
    )


def _names(settings: Sequence[str]) -> str:
    return " ".join(setting.split("=")[0] for setting in settings)
