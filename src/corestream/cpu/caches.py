"""Reading the caches of a machine from sysfs."""

from __future__ import annotations

import re
from typing import Literal

from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.machine import Cache
from corestream.cpu.system_files import SystemFiles

_KINDS: dict[str, Literal["data", "instruction", "unified"]] = {
    "Data": "data",
    "Instruction": "instruction",
    "Unified": "unified",
}
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def read_caches(files: SystemFiles, online: CPUSet) -> tuple[Cache, ...]:
    """Return every cache once, by level, kind and lowest CPU id.

    Args:
        files: The machine.
        online: The CPUs whose caches to read; others are dropped from the sharing sets.
    """
    # A cache read through one CPU is not read again through the CPUs that share it: on a
    # machine of 128 CPUs that leaves 800 of 2048 files.
    covered: dict[int, set[int]] = {}
    caches: set[Cache] = set()
    for cpu in online:
        folder = f"sys/devices/system/cpu/cpu{cpu}/cache"
        for index in files.numbered(folder, prefix="index"):
            if cpu in covered.setdefault(index, set()):
                continue
            cache = _read_cache(files, f"{folder}/index{index}", cpu=cpu, online=online)
            if cache is not None:
                covered[index].update(cache.cpus)
                caches.add(cache)
    return tuple(sorted(caches, key=lambda c: (c.level, c.kind, tuple(c.cpus))))


def _read_cache(files: SystemFiles, folder: str, *, cpu: int, online: CPUSet) -> Cache | None:
    level = files.read_int(f"{folder}/level", expected=True)
    kind = _KINDS.get(files.read(f"{folder}/type", expected=True) or "")
    cpus = files.read_cpus(f"{folder}/shared_cpu_list", expected=True)
    if level is None or kind is None or cpus is None:
        return None
    if cpu not in cpus:
        files.note(f"{folder}/shared_cpu_list", "does not name its own CPU")
        return None
    size = _parse_size(files.read(f"{folder}/size") or "")
    return Cache(level=level, kind=kind, size_bytes=size, cpus=cpus & online)


def _parse_size(text: str) -> int | None:
    match = re.fullmatch(r"([0-9]{1,15})([KMG]?)", text)
    return int(match[1]) * _UNITS[match[2]] if match else None
