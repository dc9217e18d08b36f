"""Whether every thread is where it should be, and whether idle teams slow the streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corestream import _native
from corestream.cpu.cpu_set import CPUSet
from corestream.runtime.threads import idle_openmp_threads, read_thread

if TYPE_CHECKING:
    from corestream.runtime.executor import StreamInfo


@dataclass(frozen=True, slots=True)
class ThreadAudit:
    """One thread of a stream.

    Attributes:
        stream: The stream's index.
        thread_id: Linux thread id.
        name: Its name; empty if it has ended.
        planned: The CPUs it should be allowed, as a cpulist.
        actual: The CPUs it is allowed, from /proc; empty if it has ended.

    Thread-safe: a value that never changes.
    """

    stream: int
    thread_id: int
    name: str
    planned: str
    actual: str


@dataclass(frozen=True, slots=True)
class OpenMPThreads:
    """The OpenMP workers of this process, masters not counted.

    Attributes:
        streams: Workers of the streams' teams.
        others: Idle workers of other teams, by the name of the thread that made them; None if
            /proc does not tell.
        cpus: The CPUs that the runtime counts them against.
        is_throttled: libgomp stops spinning at barriers (after 100 turns it sleeps in the
            kernel), because there are more OpenMP threads than CPUs.

    Source: gomp_team_start in libgomp's team.c: ``gomp_managed_threads > gomp_available_cpus``.

    Thread-safe: a value that never changes.
    """

    streams: int
    others: dict[str, int] | None
    cpus: int
    is_throttled: bool


@dataclass(frozen=True, slots=True)
class Audit:
    """What an executor's threads are and should be.

    Attributes:
        threads: Every thread of every stream.
        openmp: OpenMP workers in and outside the streams.
        problems: What is wrong, in words, with what to do; empty if nothing is.

    Thread-safe: a value that never changes.
    """

    threads: tuple[ThreadAudit, ...]
    openmp: OpenMPThreads
    problems: tuple[str, ...]

    @property
    def is_ok(self) -> bool:
        """Whether there is no problem.

        Thread-safe; never changes.
        """
        return not self.problems


def audit_streams(streams: Sequence[StreamInfo]) -> Audit:
    """Reads /proc and compares it with the plan of `streams`."""
    threads = tuple(
        _audit_thread(stream, index, member)
        for index, stream in enumerate(streams)
        for member in range(len(stream.thread_ids))
    )
    openmp = count_openmp_threads(streams)
    problems = [_misplaced(thread) for thread in threads if thread.actual != thread.planned]
    problems += _replacements(threads)
    if openmp.is_throttled:
        problems.append(_throttled(openmp))
    return Audit(threads, openmp, tuple(problems))


def _audit_thread(stream: StreamInfo, index: int, member: int) -> ThreadAudit:
    thread_id = stream.thread_ids[member]
    # Without an OpenMP runtime the worker is alone and keeps the whole slice.
    alone = len(stream.thread_ids) == 1
    planned = CPUSet(stream.core_ids if alone else (stream.core_ids[member],))
    state = read_thread(thread_id)
    if state is None:
        return ThreadAudit(index, thread_id, "", str(planned), "")
    actual = _native.core.simulated_affinity(thread_id)
    cpus = state.cpus if actual is None else str(CPUSet(actual))
    return ThreadAudit(index, thread_id, state.name, str(planned), cpus)


def _misplaced(thread: ThreadAudit) -> str:
    if not thread.actual:
        return (
            f"stream {thread.stream}: thread {thread.thread_id} of its team has ended: a model "
            f"ran with another number of threads; call repin(), and compile it for the team size"
        )
    return (
        f"stream {thread.stream}: thread {thread.thread_id} ({thread.name}) may run on CPUs "
        f"{thread.actual} instead of {thread.planned}; something moved it; call repin()"
    )


def _replacements(threads: Sequence[ThreadAudit]) -> list[str]:
    """OpenMP workers that joined a stream's team after its start: they carry its worker's name."""
    known = {thread.thread_id for thread in threads}
    names = {thread.name: thread.stream for thread in threads if thread.name}
    problems = []
    # Only OpenMP's own: a thread that a task started has the worker's name too.
    for thread_id, name in (idle_openmp_threads() or {}).items():
        state = None if thread_id in known or name not in names else read_thread(thread_id)
        if state is not None:
            problems.append(
                f"stream {names[name]}: thread {thread_id} joined its team after the start "
                f"and may run on CPUs {state.cpus}; call repin()"
            )
    return problems


def count_openmp_threads(streams: Sequence[StreamInfo]) -> OpenMPThreads:
    """The OpenMP workers of this process, against the CPUs of its start-up mask."""
    own = sum(len(stream.thread_ids) - 1 for stream in streams)
    kind, _ = _native.core.openmp_runtime()
    cpus = len(_native.core.startup_affinity())
    idle = idle_openmp_threads()
    if idle is None:
        return OpenMPThreads(own, None, cpus, is_throttled=False)
    members = {thread_id for stream in streams for thread_id in stream.thread_ids}
    others = Counter(name for thread_id, name in idle.items() if thread_id not in members)
    # libgomp's own count: one for the process and one for each worker of each team.
    managed = 1 + own + sum(others.values())
    return OpenMPThreads(own, dict(others), cpus, kind == "libgomp" and managed > cpus)


def _throttled(openmp: OpenMPThreads) -> str:
    others = ", ".join(f"{count} of {name!r}" for name, count in (openmp.others or {}).items())
    return (
        f"libgomp sleeps at every barrier: {openmp.streams} OpenMP workers of the streams and "
        f"{others or 'none'} of other teams exceed {openmp.cpus} CPUs; run what uses torch in "
        f"parallel on a stream, or call corestream.release_idle_team() on the thread that did"
    )
