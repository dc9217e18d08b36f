"""Which kind of CPU it is, as exactly as the kernel tells."""

from __future__ import annotations

import os
import platform

from corestream.cpu.procfs import CPUINFO, read_cpu_name
from corestream.cpu.system_files import SystemFiles

# CPUs of one name differ in these: a guest's may have no more of a name than "AMD EPYC".
_X86_NUMBERS = ("cpu family", "model", "stepping")
_ARM_NUMBERS = ("CPU implementer", "CPU part", "CPU variant", "CPU revision")


def cpu_model(root: str | os.PathLike[str] = "/") -> str:
    """Which kind of CPU it is, as exactly as the kernel tells.

    Args:
        root: The folder that stands for `/`.

    Returns:
        The name of the first CPU with the numbers that tell it from others of that name; on Arm
        the numbers alone; else the architecture.

    Example:
        >>> cpu_model() != ""
        True

    Thread-safe; holds the GIL, except inside the read.
    """
    files = SystemFiles(root)
    fields: dict[str, str] = {}
    for line in (files.read(CPUINFO) or "").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    # POWER's name is a field of its own.
    name = " ".join((read_cpu_name(files) or fields.get("cpu", "")).split())
    numbers = [fields[one] for one in _X86_NUMBERS if one in fields]
    if name:
        return f"{name} ({'/'.join(numbers)})" if numbers else name
    arm = [f"{one.removeprefix('CPU ')} {fields[one]}" for one in _ARM_NUMBERS if one in fields]
    return ", ".join(arm) or platform.machine() or "unknown"
