"""Versions, and torch's own words."""

from __future__ import annotations

from corestream.doctor.facts import Facts
from corestream.doctor.finding import Finding, Level

GROUP = "Software"


def versions(facts: Facts) -> Finding:
    """Versions of torch, Python and the kernel, and whether corestream's native part fits."""
    torch, kernel = facts.torch, facts.machine.kernel
    system = f"kernel {kernel}" if kernel else "kernel unknown"
    if torch is None:
        return _without_torch(facts, system=system)
    value = f"torch {torch.version}, Python {torch.python}, {system}"
    if torch.built_against is None:
        return Finding(
            group=GROUP,
            title="versions",
            level=Level.WARN,
            value=f"{value}; corestream's native part is not compiled",
            explanation="streams cannot be made; the command line works",
            fix="pip install corestream, or `make build` in a source tree",
        )
    if _minor(torch.built_against) != _minor(torch.version):
        return Finding(
            group=GROUP,
            title="versions",
            level=Level.FAIL,
            value=f"{value}; corestream was built against torch {torch.built_against}",
            explanation="torch's C++ interface holds within one minor version only",
            fix=f"install torch {'.'.join(_minor(torch.built_against))}, or build corestream anew",
        )
    return Finding(group=GROUP, title="versions", value=value)


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _without_torch(facts: Facts, *, system: str) -> Finding:
    reason = facts.torch_absence or "torch is not loaded in this process"
    if facts.torch_died:
        return Finding(
            group=GROUP,
            title="versions",
            level=Level.FAIL,
            value=f"importing torch failed: a fresh process {reason}",
            fix="python -X faulthandler -c 'import torch' shows where; a wheel for another CPU?",
        )
    return Finding(
        group=GROUP,
        title="versions",
        level=Level.NOTE,
        value=f"no torch to ask: {reason}; {system}",
    )


def parallel_info(facts: Facts) -> Finding | None:
    """Every line of `torch.__config__.parallel_info()`."""
    if facts.torch is None:
        return None
    lines = [line.strip() for line in facts.torch.parallel_info.splitlines() if line.strip()]
    # A heading such as "Environment variables:" is followed by what it heads.
    value = " · ".join(lines).replace(": · ", ": ")
    return Finding(group=GROUP, title="parallel_info", value=value)
