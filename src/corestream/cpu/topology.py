"""`topology(root)`: the CPUs of this machine, or of one stored as a folder of text."""

from __future__ import annotations

import os
from functools import lru_cache

from corestream.cpu import override
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.machine import (
    Cache,
    Core,
    CoreType,
    L3Domain,
    LogicalCPU,
    NUMANode,
    Package,
    Topology,
)
from corestream.cpu.sysfs import read_online, read_topology
from corestream.cpu.system_files import SystemFiles

__all__ = [
    "Cache",
    "Core",
    "CoreType",
    "L3Domain",
    "LogicalCPU",
    "NUMANode",
    "Package",
    "Topology",
    "topology",
]


def topology(root: str | os.PathLike[str] = "/") -> Topology:
    """Return the logical CPUs of a machine with their core, package, NUMA node and L3 domain.

    Reads only the kernel's text under `root`, so that any machine can be a test fixture and no
    `lscpu`, `numactl` or libnuma is needed. Never raises on an odd machine (WSL, gVisor, no
    sysfs): it returns less, and `.notes` says what was missing.

    Args:
        root: The folder that stands for `/`; `python -m corestream.cpu gather DIR` makes one.

    Returns:
        The topology. That of this machine is read once for each set of online CPUs.

    Example:
        >>> machine = topology()
        >>> len(machine.cores) <= len(machine.online)
        True
        >>> cpu = machine.cpus[0]
        >>> cpu.cpu_id in machine.cpus_of_numa_node(cpu.numa_node_id)
        True

    Source: Documentation/admin-guide/cputopology.rst and ABI/stable/sysfs-devices-node of Linux.

    Thread-safe; holds the GIL, except inside the reads.
    """
    if not is_live(root):
        return read_topology(SystemFiles(root))
    current = override.current()
    if current is not None:
        return current.topology
    return _read_live_topology(read_online(SystemFiles(root)))


def is_live(root: str | os.PathLike[str]) -> bool:
    """Return whether `root` is this machine and not a copy of another.

    Args:
        root: A folder.
    """
    return os.fspath(root) == "/"


def check_root(root: str | os.PathLike[str]) -> None:
    """Refuse a folder that holds no machine, of which `topology` would make a machine of one CPU.

    Args:
        root: The folder that stands for `/`.

    Raises:
        ValueError: It is no folder, or has neither `proc` nor `sys` in it.
    """
    files = SystemFiles(root)
    if not any(files.is_folder(name) for name in ("proc", "sys")):
        raise ValueError(
            f"root must be a folder with the text of a machine; got {os.fspath(root)!r}; "
            "make one with python -m corestream.cpu gather DIR"
        )


@lru_cache(maxsize=4)
def _read_live_topology(online: CPUSet | None) -> Topology:
    # Keyed by the online CPUs: only switching a CPU on or off changes a running machine, and
    # reading everything takes 20 ms on 128 CPUs.
    return read_topology(SystemFiles("/"))
