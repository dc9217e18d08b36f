"""What corestream runs in this process: executors, streams, teams."""

from __future__ import annotations

import sys
from pathlib import Path

from corestream.cpu.cpu_set import CPUSet
from corestream.doctor.facts import ExecutorFacts, ServiceFacts


def read_service() -> ServiceFacts | None:
    """Return the live executors with their audits; None where the runtime was never loaded."""
    # Looking must not load what the process did not: torch, and the native part.
    if "corestream.runtime.executor" not in sys.modules:
        return None
    from corestream.runtime.audit import audit_streams
    from corestream.runtime.executor import live_streams
    from corestream.runtime.lifecycle import live_executors

    executors = []
    for executor in live_executors():
        if not executor.has_streams or executor.is_shut_down:
            continue
        slices = [CPUSet(cpus) for cpus, _, _ in executor.streams()]
        executors.append(ExecutorFacts(streams=tuple(slices)))
    audit = audit_streams(live_streams())
    return ServiceFacts(
        executors=tuple(executors),
        problems=audit.problems,
        stream_workers=audit.openmp.streams,
        other_workers=audit.openmp.others,
        main_name=_main_name(),
    )


def _main_name() -> str:
    try:
        return Path("/proc/self/comm").read_text().strip()
    except OSError:
        return ""
