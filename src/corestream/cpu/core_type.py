"""Telling performance cores from efficient ones on hybrid machines."""

from __future__ import annotations

from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.machine import CoreType
from corestream.cpu.system_files import SystemFiles

EFFICIENT_BELOW = 0.8
"""A core is efficient if its capacity or top frequency is under this share of the best core's.

Favoured cores of one class differ by a few per cent (Intel Turbo Boost Max 5.8 against 5.5 GHz)
and middle cores of Arm's three-class chips by 15 %; efficient classes lie at 20 to 75 %.
"""

_PERFORMANCE_PMU = "sys/devices/cpu_core/cpus"
_EFFICIENT_PMUS = ("sys/devices/cpu_atom/cpus", "sys/devices/cpu_lowpower/cpus")
_MEASURES = ("cpu_capacity", "cpufreq/cpuinfo_max_freq")


def read_core_types(files: SystemFiles, online: CPUSet) -> dict[int, CoreType]:
    """Return the core type by CPU id; empty on a machine whose cores are alike.

    Intel's kernel driver names the classes outright, as one performance counter unit each;
    elsewhere the scheduler's capacity of a CPU tells (Arm), else its top frequency (AMD).

    Args:
        files: The machine.
        online: The CPUs to classify.
    """
    performance = files.read_cpus(_PERFORMANCE_PMU)
    if performance is not None:
        efficient = CPUSet()
        for path in _EFFICIENT_PMUS:
            efficient |= files.read_cpus(path) or CPUSet()
        named: dict[int, CoreType] = dict.fromkeys(performance & online, "performance")
        named.update(dict.fromkeys(efficient & online, "efficient"))
        return named
    for measure in _MEASURES:
        types = _types_by_measure(files, online, name=measure)
        if types:
            return types
    return {}


def _types_by_measure(files: SystemFiles, online: CPUSet, *, name: str) -> dict[int, CoreType]:
    values: dict[int, int] = {}
    for cpu in online:
        value = files.read_int(f"sys/devices/system/cpu/cpu{cpu}/{name}")
        if value is None or value <= 0:
            return {}
        values[cpu] = value
    threshold = max(values.values(), default=0) * EFFICIENT_BELOW
    if all(value >= threshold for value in values.values()):
        return {}
    return {
        cpu: "performance" if value >= threshold else "efficient" for cpu, value in values.items()
    }
