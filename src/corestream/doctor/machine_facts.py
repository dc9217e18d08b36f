"""The machine's facts, from the kernel's text under a root."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from corestream.cpu.budget import read_budget
from corestream.cpu.cgroup import cgroup_folders
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.procfs import CPUINFO, read_cpu_name
from corestream.cpu.sysfs import read_topology
from corestream.cpu.system_files import SystemFiles
from corestream.cpu.topology import is_live, topology
from corestream.doctor.facts import FrequencyPolicy, HugePages, MachineFacts, Throttling

_CPU = "sys/devices/system/cpu"
_TRANSPARENT = "sys/kernel/mm/transparent_hugepage/enabled"
_STEAL_FIELD = 7
_TIME_FIELDS = 8  # user to steal; guest time is counted within user's (proc(5))


class FilesOfProcess(SystemFiles):
    """The kernel's text as it stands for another process: its cgroup, its mask.

    Args:
        root: The folder that stands for `/`.
        process_id: The process for which `self` stands.
    """

    def __init__(self, root: str | os.PathLike[str], process_id: int) -> None:
        # Another name of the same folder: under "/" the mask of the calling process would count.
        super().__init__("/proc/self/root" if is_live(root) else root)
        self._process_id = process_id

    def read(self, path: str, *, expected: bool = False) -> str | None:
        """Return the stripped text of a file, or None; note a failure that says something.

        Args:
            path: Relative to the root; `proc/self` is the other process's folder.
            expected: Note the absence too.
        """
        path = re.sub(r"^proc/self/", f"proc/{self._process_id}/", path)
        return super().read(path, expected=expected)


def read_machine(root: str | os.PathLike[str], *, process_id: int | None = None) -> MachineFacts:
    """Return the machine's facts.

    Args:
        root: The folder that stands for `/`.
        process_id: Whose cgroup and mask count, if not the calling process's.
    """
    files = SystemFiles(root) if process_id is None else FilesOfProcess(root, process_id)
    machine = topology("/") if is_live(root) else read_topology(SystemFiles(root))
    budget = read_budget(files)
    cpuinfo = files.read(CPUINFO) or ""
    return MachineFacts(
        topology=machine,
        budget=budget,
        cpu_name=read_cpu_name(files),
        cpu_flags=frozenset((_first(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo) or "").split()),
        kernel=files.read("proc/sys/kernel/osrelease"),
        smt_control=files.read(f"{_CPU}/smt/control"),
        throttling=tuple(_read_throttling(files)),
        steal_share=_read_steal_share(files),
        frequency=tuple(_read_frequency(files, budget.allowed)),
        huge_pages=HugePages(
            transparent=_first(r"\[(\w+)\]", files.read(_TRANSPARENT) or ""),
            num_reserved=files.read_int("proc/sys/vm/nr_hugepages"),
        ),
        numa_balancing=_flag(files.read_int("proc/sys/kernel/numa_balancing")),
    )


def _first(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else None


def _flag(value: int | None) -> bool | None:
    return None if value is None else value > 0


def _read_throttling(files: SystemFiles) -> Iterator[Throttling]:
    for folder in cgroup_folders(files, "cpu"):
        path = f"{folder.path}/cpu.stat"
        counters = _counters(files.read(path) or "")
        if "nr_periods" not in counters:
            continue
        # v1 counts nanoseconds (throttled_time), v2 microseconds (throttled_usec).
        seconds = counters.get("throttled_usec", 0) / 1e6 + counters.get("throttled_time", 0) / 1e9
        yield Throttling(
            path=path,
            num_periods=counters["nr_periods"],
            num_throttled=counters.get("nr_throttled", 0),
            throttled_s=seconds,
        )


def _counters(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {
        pair[0]: int(pair[1])
        for pair in pairs
        if len(pair) == 2 and re.fullmatch(r"[0-9]{1,20}", pair[1])
    }


def _read_steal_share(files: SystemFiles) -> float | None:
    match = re.match(r"cpu +([0-9 ]+)", files.read("proc/stat") or "")
    times = [int(field) for field in match[1].split()] if match else []
    if len(times) < _TIME_FIELDS or sum(times[:_TIME_FIELDS]) == 0:
        return None
    return times[_STEAL_FIELD] / sum(times[:_TIME_FIELDS])


def _read_frequency(files: SystemFiles, cpus: CPUSet) -> Iterator[FrequencyPolicy]:
    groups: dict[tuple[str, str | None, str | None], list[int]] = {}
    for cpu in cpus:
        folder = f"{_CPU}/cpu{cpu}/cpufreq"
        governor = files.read(f"{folder}/scaling_governor")
        if governor is not None:
            driver = files.read(f"{folder}/scaling_driver")
            preference = files.read(f"{folder}/energy_performance_preference")
            groups.setdefault((governor, driver, preference), []).append(cpu)
    for (governor, driver, preference), members in groups.items():
        yield FrequencyPolicy(
            governor=governor, driver=driver, preference=preference, cpus=CPUSet(members)
        )
