"""Where memory comes from: the allocator, and the size of its pages."""

from __future__ import annotations

from pathlib import Path

from corestream.doctor.facts import Facts
from corestream.doctor.finding import Finding, Level

GROUP = "Memory"


def malloc(facts: Facts) -> Finding:
    """Which malloc serves the process."""
    title, process, environ = "allocator", facts.process, facts.environ
    if process.missing_preloads:
        return Finding(
            group=GROUP,
            title=title,
            level=Level.WARN,
            value=f"LD_PRELOAD names {', '.join(process.missing_preloads)}, which does not exist",
            explanation="the loader only prints a line and goes on without it",
            fix="install it or correct the path; corestream run --allocator finds the file",
        )
    if process.allocators is None:
        return Finding(group=GROUP, title=title, level=Level.NOTE, value="not visible")
    value = ", ".join(process.allocators) or "glibc's malloc"
    names = [Path(path).name for path in process.allocators]
    if "MALLOC_CONF" in environ and not any(name.startswith("libjemalloc") for name in names):
        return Finding(
            group=GROUP,
            title=title,
            level=Level.NOTE,
            value=f"{value}; MALLOC_CONF is set, but jemalloc is not there to read it",
            fix="corestream run --allocator jemalloc, or unset MALLOC_CONF",
        )
    if tunables := environ.get("GLIBC_TUNABLES"):
        value += f", {tunables}"
    return Finding(group=GROUP, title=title, value=value)


def huge_pages(facts: Facts) -> Finding:
    """Transparent huge pages, and whether torch asks for them."""
    title, pages = "huge pages", facts.machine.huge_pages
    asked = facts.environ.get("THP_MEM_ALLOC_ENABLE") == "1"
    if pages.transparent is None:
        return Finding(group=GROUP, title=title, value="not described")
    value = f"transparent: {pages.transparent}"
    value += f", reserved: {pages.num_reserved}" if pages.num_reserved is not None else ""
    value += ", torch asks for them (THP_MEM_ALLOC_ENABLE=1)" if asked else ""
    if pages.transparent == "never" and asked:
        return Finding(
            group=GROUP,
            title=title,
            level=Level.WARN,
            value=value,
            explanation="torch asks, the kernel never gives",
            fix="as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )
    if pages.transparent == "never":
        return Finding(
            group=GROUP,
            title=title,
            level=Level.NOTE,
            value=value,
            explanation="large tensors take one page fault for every 4 KiB",
            fix="as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )
    return Finding(group=GROUP, title=title, value=value)
