"""What a process does to itself before it becomes an instance: mask, memory, death with its parent.

Plain system calls, so that it works in containers and cpusets without numactl or taskset.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from collections.abc import Iterable

from corestream.cpu.cpu_set import format_cpu_list
from corestream.launch.plan import InstancePlan

# Numbers of set_mempolicy(2), for which the C library has no function.
_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237, "riscv64": 237, "ppc64le": 261, "s390x": 270}
_MPOL_BIND = 2
_PR_SET_PDEATHSIG = 1
_BITS = 8 * ctypes.sizeof(ctypes.c_ulong)

# Python ignores these as it starts, and exec hands on what is ignored.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)

_libc = ctypes.CDLL(None, use_errno=True)


def confine(instance: InstancePlan) -> str | None:
    """Give the calling thread the mask and the memory policy of an instance; exec keeps both.

    Args:
        instance: The plan of this process.

    Returns:
        A line about what could not be had and does no harm, or None.

    Raises:
        OSError: The kernel refuses the mask; the CPUs are in it.

    Thread-safe: changes the calling thread only; holds the GIL.
    """
    if instance.is_pinned:
        try:
            os.sched_setaffinity(0, instance.cpus)
        except OSError as error:
            cpus = format_cpu_list(instance.cpus)
            raise OSError(
                error.errno, f"CPUs {cpus} of instance {instance.index}: {error.strerror}"
            ) from error
    if not instance.memory_nodes:
        return None
    problem = bind_memory(instance.memory_nodes)
    if problem is None:
        return None
    nodes = format_cpu_list(instance.memory_nodes)
    return f"memory of instance {instance.index} is not bound to NUMA nodes {nodes}: {problem}"


def bind_memory(numa_nodes: Iterable[int]) -> str | None:
    """Take new memory of the calling thread from these NUMA nodes only.

    Many containers forbid it (EPERM), some sandboxes have no such call (ENOSYS).

    Args:
        numa_nodes: The OS's numbers of the nodes.

    Returns:
        Why it could not be done, or None.

    Thread-safe: changes the calling thread only; holds the GIL.
    """
    number = _SET_MEMPOLICY.get(platform.machine())
    if number is None:
        return f"the number of set_mempolicy on {platform.machine()} is not known"
    nodes = list(numa_nodes)
    mask = (ctypes.c_ulong * (max(nodes) // _BITS + 1))()
    for node in nodes:
        mask[node // _BITS] |= 1 << (node % _BITS)
    # The kernel reads one bit less than it is told (get_nodes in mm/mempolicy.c).
    max_node = ctypes.c_ulong(len(mask) * _BITS + 1)
    if _libc.syscall(ctypes.c_long(number), ctypes.c_int(_MPOL_BIND), mask, max_node) == 0:
        return None
    return os.strerror(ctypes.get_errno())


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends.

    Args:
        parent: Its process; if it is gone already, this process ends here.

    Thread-safe; holds the GIL.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def open_standard_descriptors() -> None:
    """Open /dev/null for each of the first three descriptors that is closed.

    A daemon may have been started without them. The next files that are opened, a claim of the
    ledger or a log, would be given their numbers, and what is written to standard output would
    end up there.

    Not thread-safe: belongs to the whole process; holds the GIL.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def restore_default_signals() -> None:
    """Undo what Python itself ignores, as a program started by a shell would find it.

    Not thread-safe: belongs to the whole process; holds the GIL.
    """
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
