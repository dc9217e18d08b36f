"""What kept a measurement from the CPUs: other processes, the hypervisor, the cgroup's quota."""

from __future__ import annotations

import os
from dataclasses import dataclass

from corestream.cpu.cgroup import cgroup_folders
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.system_files import SystemFiles

_IDLE, _IOWAIT, _STEAL = 3, 4, 7
_TIME_FIELDS = 8  # user to steal; guest time is counted within user's (proc(5))
_THROTTLED_UNITS = {"throttled_usec": 1e-6, "throttled_time": 1e-9}  # cgroup v2, v1


@dataclass(frozen=True)
class Disturbance:
    """Of some seconds, what others had of the CPUs that a measurement may use.

    Attributes:
        num_throttled: Periods in which a cgroup was stopped because its quota was used up.
        throttled_s: Seconds that its threads were stopped, summed over threads.
        stolen_share: Of the CPUs' time, what the hypervisor gave to other machines.
        others_share: Of the CPUs' time, what other processes used.

    A value: threads may share it.
    """

    num_throttled: int = 0
    throttled_s: float = 0.0
    stolen_share: float = 0.0
    others_share: float = 0.0


@dataclass(frozen=True)
class Counters:
    """The kernel's counters at one moment.

    Attributes:
        total: Ticks of the CPUs.
        busy: Ticks in which they ran something.
        stolen: Ticks that the hypervisor took.
        num_throttled: Of the process's cgroup and those around it.
        throttled_s: The same.

    A value: threads may share it.
    """

    total: int
    busy: int
    stolen: int
    num_throttled: int
    throttled_s: float

    @classmethod
    def read(cls, cpus: CPUSet, *, root: str | os.PathLike[str] = "/") -> Counters:
        """The counters now, all 0 where the kernel does not tell.

        Args:
            cpus: The CPUs that a measurement may use.
            root: The folder that stands for `/`.
        """
        files = SystemFiles(root)
        times = [
            [int(word) for word in words[1 : _TIME_FIELDS + 1]]
            for line in (files.read("proc/stat") or "").splitlines()
            if (words := line.split()) and words[0] in {f"cpu{cpu}" for cpu in cpus}
        ]
        throttled = [_throttling(files, folder.path) for folder in cgroup_folders(files, "cpu")]
        idle = sum(fields[_IDLE] + fields[_IOWAIT] for fields in times)
        stolen = sum(fields[_STEAL] for fields in times)
        total = sum(map(sum, times))
        return cls(
            total=total,
            busy=total - idle - stolen,
            stolen=stolen,
            num_throttled=sum(count for count, _ in throttled),
            throttled_s=sum(seconds for _, seconds in throttled),
        )

    def since(self, start: Counters, *, own_cpu_s: float) -> Disturbance:
        """What happened since `start`.

        Args:
            start: Counters of the same CPUs, taken earlier.
            own_cpu_s: CPU time that the measured processes used in between.
        """
        total = max(1, self.total - start.total)
        others = self.busy - start.busy - own_cpu_s * os.sysconf("SC_CLK_TCK")
        return Disturbance(
            num_throttled=self.num_throttled - start.num_throttled,
            throttled_s=self.throttled_s - start.throttled_s,
            stolen_share=(self.stolen - start.stolen) / total,
            others_share=min(1.0, max(0.0, others / total)),
        )


def mean(disturbances: list[Disturbance]) -> Disturbance:
    """Of several turns: counts are summed, shares averaged.

    Args:
        disturbances: One for each turn, of about the same length.
    """
    count = max(1, len(disturbances))
    return Disturbance(
        num_throttled=sum(one.num_throttled for one in disturbances),
        throttled_s=sum(one.throttled_s for one in disturbances),
        stolen_share=sum(one.stolen_share for one in disturbances) / count,
        others_share=sum(one.others_share for one in disturbances) / count,
    )


def _throttling(files: SystemFiles, folder: str) -> tuple[int, float]:
    """(periods, seconds) that a cgroup was throttled."""
    count, seconds = 0, 0.0
    for line in (files.read(f"{folder}/cpu.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if not value.isdecimal():
            continue
        if name == "nr_throttled":
            count = int(value)
        elif name in _THROTTLED_UNITS:
            seconds = int(value) * _THROTTLED_UNITS[name]
    return count, seconds
