"""What procfs says about CPUs: the fallback where sysfs is absent, and the affinity mask."""

from __future__ import annotations

import re
from dataclasses import dataclass

from corestream.cpu.cpu_set import MAX_CPU_ID, CPUSet
from corestream.cpu.system_files import SystemFiles

STATUS = "proc/self/status"
CPUINFO = "proc/cpuinfo"

_ALLOWED_LINE = re.compile(r"^Cpus_allowed_list:[ \t]*(.*)$", re.MULTILINE)
_NAME_LINE = re.compile(r"^(?:model name|Processor)[ \t]*:[ \t]*(\S.*)$", re.MULTILINE)
_CPUINFO_LINE = re.compile(r"^(processor|physical id|core id)[ \t]*:[ \t]*([0-9]{1,10})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class CPUInfo:
    """The numbers that /proc/cpuinfo gives for one logical CPU."""

    package_id: int | None = None
    core_id: int | None = None


def read_status_affinity(files: SystemFiles) -> CPUSet | None:
    """Return the affinity mask of /proc/self/status, or None where the kernel does not show it.

    Args:
        files: The machine.
    """
    match = _ALLOWED_LINE.search(files.read(STATUS, expected=True) or "")
    if match is None:
        return None
    try:
        return CPUSet.parse(match[1])
    except ValueError:
        files.note(STATUS, f"not a CPU list: {match[1][:40]!r}")
        return None


def read_cpu_name(files: SystemFiles) -> str | None:
    """Return what the first CPU of /proc/cpuinfo is called, or None; Arm's have numbers instead.

    Args:
        files: The machine.
    """
    match = _NAME_LINE.search(files.read(CPUINFO) or "")
    return match[1].strip() if match else None


def read_cpuinfo(files: SystemFiles) -> dict[int, CPUInfo]:
    """Return the logical CPUs of /proc/cpuinfo, by id; empty if it tells nothing.

    Args:
        files: The machine.
    """
    cpus: dict[int, CPUInfo] = {}
    fields: dict[str, int] = {}
    for line in [*(files.read(CPUINFO, expected=True) or "").splitlines(), "processor : 0"]:
        match = _CPUINFO_LINE.match(line.strip())
        if match is None:
            continue
        if match[1] == "processor" and "processor" in fields:
            if fields["processor"] <= MAX_CPU_ID:
                cpus[fields["processor"]] = CPUInfo(
                    package_id=fields.get("physical id"), core_id=fields.get("core id")
                )
            fields = {}
        fields[match[1]] = int(match[2])
    return cpus
