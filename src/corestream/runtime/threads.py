"""The threads of this process, and which of them are OpenMP's, from /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from corestream.cpu.openmp import mapped_code

_TASKS = Path("/proc/self/task")


@dataclass(frozen=True, slots=True)
class ThreadState:
    """One thread of this process.

    Attributes:
        thread_id: Its Linux thread id.
        name: Its name, as ``top -H`` shows it.
        cpus: Where it may run, as a cpulist.
    """

    thread_id: int
    name: str
    cpus: str


def thread_ids() -> list[int]:
    """The thread ids of this process, ascending."""
    return sorted(int(entry.name) for entry in _TASKS.iterdir())


def read_thread(thread_id: int) -> ThreadState | None:
    """What /proc has on a thread; None if it has ended."""
    try:
        status = (_TASKS / str(thread_id) / "status").read_text()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return ThreadState(thread_id, fields["Name"].strip(), fields["Cpus_allowed_list"].strip())


def mapped_openmp_runtimes() -> list[str]:
    """Paths of the OpenMP runtimes mapped into this process, in order of address."""
    return list(dict.fromkeys(path for _, path in _openmp_mappings()))


def _openmp_mappings() -> list[tuple[range, str]]:
    try:
        return mapped_code(Path("/proc/self/maps").read_text())
    except OSError:
        return []


def idle_openmp_threads() -> dict[int, str] | None:
    """Threads asleep inside an OpenMP runtime: thread id to name; None if /proc does not say.

    The last field of /proc/PID/task/TID/syscall is the program counter of a blocked thread;
    libgomp makes its futex calls itself, so its idle workers stand inside its own mapping.
    Under Intel's and LLVM's runtimes workers sleep inside libc and are not found, nor need they
    be: those runtimes do not throttle.
    """
    mappings = [addresses for addresses, _ in _openmp_mappings()]
    found = {}
    readable = False
    for thread_id in thread_ids():
        try:
            fields = (_TASKS / str(thread_id) / "syscall").read_text().split()
        except OSError:
            continue  # ended meanwhile, or this kernel does not let us look
        readable = True
        if len(fields) < 3:
            continue
        counter = int(fields[-1], 16)
        state = read_thread(thread_id)
        if state is not None and any(counter in addresses for addresses in mappings):
            found[thread_id] = state.name
    return found if readable else None
