"""What the CPU calls itself."""

from __future__ import annotations

import os
import platform

from corestream.cpu.system_files import SystemFiles

# x86 has a name; Arm has numbers that stand for one; POWER and s390 have names of their own.
_NAMES = ("model name", "cpu model", "cpu", "Processor", "machine")
_ARM_NUMBERS = ("CPU implementer", "CPU part", "CPU variant", "CPU revision")


def cpu_model(root: str | os.PathLike[str] = "/") -> str:
    """What the CPU calls itself, as far as the kernel tells.

    Args:
        root: The folder that stands for `/`.

    Returns:
        The name of the first CPU; on Arm the numbers that name it; else the architecture.

    Example:
        >>> cpu_model() != ""
        True

    Thread-safe; holds the GIL, except inside the read.
    """
    fields: dict[str, str] = {}
    for line in (SystemFiles(root).read("proc/cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    # Clones of one name differ in family, model and stepping: a guest's CPU may have no more name
    # than "AMD EPYC".
    numbers = [fields[name] for name in ("cpu family", "model", "stepping") if name in fields]
    for name in _NAMES:
        if name in fields:
            suffix = f" ({'/'.join(numbers)})" if numbers and name == "model name" else ""
            return " ".join(fields[name].split()) + suffix
    arm = [f"{name.removeprefix('CPU ')} {fields[name]}" for name in _ARM_NUMBERS if name in fields]
    return ", ".join(arm) or platform.machine() or "unknown"
