"""What the kernel and the OpenMP runtime say about this process's threads; nothing of ours."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from corestream import Future, _native
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.override import override_allowed

TASKS = Path("/proc/self/task")

# Far more than any wait here needs; a wait that takes this long has failed.
DEADLINE_S = 30.0


def thread_ids() -> set[int]:
    return {int(entry.name) for entry in TASKS.iterdir()}


def cpus_of(thread_id: int) -> list[int]:
    """Where a thread may run, from /proc."""
    for line in (TASKS / str(thread_id) / "status").read_text().splitlines():
        if line.startswith("Cpus_allowed_list:"):
            return list(CPUSet.parse(line.split(":")[1].strip()))
    raise AssertionError(f"/proc has no affinity of thread {thread_id}")


def name_of(thread_id: int) -> str:
    return (TASKS / str(thread_id) / "comm").read_text().strip()


def cpu_time_of(thread_id: int) -> float:
    """Seconds of CPU time that a thread has used: MAKE_THREAD_CPUCLOCK of the kernel."""
    return time.clock_gettime((~thread_id << 3) | 6)


def team_of_this_thread() -> list[int]:
    """Thread ids of the calling thread's OpenMP team, member 0 first, asked from the runtime."""
    runtime = ctypes.CDLL(_native.core.openmp_runtime()[1])
    members = {}

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def member(_data):
        members[runtime.omp_get_thread_num()] = threading.get_native_id()

    runtime.GOMP_parallel(member, None, 0, 0)
    assert sorted(members) == list(range(len(members)))
    return [members[number] for number in sorted(members)]


def wait_until(condition: Callable[[], object]) -> bool:
    """For what the kernel does after a call has returned, such as reaping a joined thread."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        os.sched_yield()
    return True


def on_new_thread(function: Callable[[], object]) -> object:
    """What `function` returns, or raises, on a thread that has no OpenMP team yet."""
    outcome = []

    def run():
        try:
            outcome.append((function(), None))
        except BaseException as error:  # noqa: BLE001 (raised again by the caller)
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(DEADLINE_S)
    assert outcome, "the thread hangs"
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def is_over_without_the_gil(
    start: Callable[[], Sequence[Future]], *, patience_s: float = DEADLINE_S
) -> bool:
    """Whether what `start` starts ends although this thread never lets go of the GIL."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        futures = start()
        deadline = time.monotonic() + patience_s
        while not all(future.done() for future in futures):
            if time.monotonic() > deadline:
                return False
    finally:
        sys.setswitchinterval(interval)
    return True


def in_forked_child(function: Callable[[], object]) -> str:
    """The repr of what `function` returns in a forked child."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        try:
            os.write(write_end, repr(function()).encode())
        except BaseException as error:  # noqa: BLE001 (a child must not return into pytest)
            os.write(write_end, repr(error).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    return answer


@contextmanager
def simulated_cpus(num_cpus: int) -> Iterator[None]:
    """CPUs 0..num_cpus-1 on whatever machine this is; masks are remembered, threads stay put."""
    with override_allowed(CPUSet(range(num_cpus))):
        _native.core.simulate_cpus(num_cpus)
        try:
            yield
        finally:
            _native.core.simulate_cpus(None)
