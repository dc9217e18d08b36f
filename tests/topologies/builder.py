"""Makes the sysfs, procfs and cgroup text of a machine from a short description of its shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal

from corestream.cpu import CPUSet

CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"

Numbering = Literal["siblings last", "siblings adjacent", "packages interleaved"]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The shape of a machine; counts are per enclosing part (nodes per package, and so on)."""

    packages: int = 1
    nodes: int = 1
    l3s: int = 1
    cores: int = 2
    smt: int = 1
    numbering: Numbering = "siblings last"
    efficient: int = 0
    """Efficient cores without SMT, numbered after all others, in the last L3 domain."""
    marked_by: Literal["pmu", "cpu_capacity", "cpufreq/cpuinfo_max_freq"] = "pmu"
    """How the kernel tells efficient cores from performance cores."""
    missing: str = ""
    """CPU ids that do not exist; the numbering skips them."""
    offline: str = ""
    node_ids: tuple[int, ...] = ()
    """The OS's numbers of the nodes, if not 0, 1, 2..."""
    memory_only_nodes: tuple[int, ...] = ()
    l3_spans_package: bool = False
    """As with sub-NUMA clustering on Xeons: the L3 of a package is shown as one."""
    caches: bool = True
    node_folder: bool = True
    sysfs: bool = True
    cpuinfo: bool = True
    affinity: str | None = None
    """Mask of the process; all online CPUs by default."""
    cgroup: Mapping[str, str] = field(default_factory=dict)
    """Files of procfs and cgroupfs, from `cgroup_v1` or `cgroup_v2`."""


@dataclass(frozen=True, kw_only=True)
class _Thread:
    """One logical CPU and the numbers of what it belongs to, all machine-wide except core_id."""

    cpu: int
    package: int
    node: int
    l3: int
    core: int
    core_id: int
    efficient: bool


def build(folder: Path, machine: Machine) -> Path:
    """Write the machine's text under `folder` and return it, to be used as a root."""
    threads = _threads(machine)
    offline = CPUSet.parse(machine.offline) if machine.offline else CPUSet()
    online = [thread for thread in threads if thread.cpu not in offline]
    texts: dict[str, str] = {}
    if machine.sysfs:
        texts |= _cpu_lists(threads, offline)
        texts |= _core_texts(online)
        texts |= _cache_texts(online, machine) if machine.caches else {}
        texts |= _core_type_texts(online, machine) if machine.efficient else {}
        texts |= _node_texts(online, machine) if machine.node_folder else {}
    if machine.cpuinfo:
        texts["proc/cpuinfo"] = "\n".join(map(_cpuinfo, online))
    affinity = machine.affinity or str(CPUSet(thread.cpu for thread in online))
    if affinity != "hidden":
        texts["proc/self/status"] = f"Name:\tpython\nCpus_allowed_list:\t{affinity}\n"
    write(folder, texts | dict(machine.cgroup))
    return folder


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write each text to its path under `folder`."""
    for path, text in texts.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def cgroup_v2(member: str, limits: Mapping[str, Mapping[str, str]], **mount: str) -> dict[str, str]:
    """Return the files of a unified hierarchy.

    Args:
        member: The cgroup that /proc/self/cgroup names.
        limits: Files by cgroup folder below the mount point, "" for its top.
        mount: `shown`, the cgroup that the mount shows as its top, "/" by default.
    """
    point = "sys/fs/cgroup"
    shown = mount.get("shown", "/")
    texts = {
        "proc/self/cgroup": f"0::{member}\n",
        "proc/self/mountinfo": f"31 23 0:28 {shown} /{point} rw - cgroup2 cgroup2 rw\n",
    }
    return texts | _limit_texts(point, limits)


def cgroup_v1(member: str, limits: Mapping[str, Mapping[str, str]], **mount: str) -> dict[str, str]:
    """Return the files of a v1 hierarchy with cpu, cpuacct and cpuset mounted together.

    Args:
        member: The cgroup that /proc/self/cgroup names.
        limits: Files by cgroup folder below the mount point, "" for its top.
        mount: `shown`, the cgroup that the mount shows as its top, "/" by default.
    """
    point = "sys/fs/cgroup/cpu,cpuacct,cpuset"
    shown = mount.get("shown", "/")
    texts = {
        "proc/self/cgroup": f"7:memory:/other\n4:cpu,cpuacct,cpuset:{member}\n1:name=systemd:/x\n",
        "proc/self/mountinfo": (
            "30 23 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
            f"31 30 0:28 {shown} /{point} rw shared:9 - cgroup cgroup rw,cpu,cpuacct,cpuset\n"
        ),
    }
    return texts | _limit_texts(point, limits)


def _limit_texts(point: str, limits: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {
        f"{point}{folder}/{name}": f"{text}\n"
        for folder, files in limits.items()
        for name, text in files.items()
    }


def _threads(machine: Machine) -> list[_Thread]:
    per_package = machine.nodes * machine.l3s * machine.cores
    num_cores = machine.packages * per_package
    missing = CPUSet.parse(machine.missing) if machine.missing else CPUSet()
    ids = (cpu for cpu in count() if cpu not in missing)
    position: dict[int, tuple[int, int]] = {}
    for core in range(num_cores):
        package, core_id = divmod(core, per_package)
        rank = core_id * machine.packages + package
        for sibling in range(machine.smt):
            number = {
                "siblings last": sibling * num_cores + core,
                "siblings adjacent": core * machine.smt + sibling,
                "packages interleaved": sibling * num_cores + rank,
            }[machine.numbering]
            position[number] = (core, core_id)
    for index in range(machine.efficient):
        position[len(position)] = (num_cores + index, per_package + index)
    threads = []
    for number in sorted(position):
        core, core_id = position[number]
        place = min(core, num_cores - 1)
        threads.append(
            _Thread(
                cpu=next(ids),
                package=place // per_package,
                node=place // (machine.l3s * machine.cores),
                l3=place // machine.cores,
                core=core,
                core_id=core_id,
                efficient=core >= num_cores,
            )
        )
    return threads


def _cpu_lists_by(threads: list[_Thread], attribute: str) -> dict[int, str]:
    """Return the CPU list of the threads that share each value of an attribute."""
    groups: dict[int, list[int]] = {}
    for thread in threads:
        groups.setdefault(getattr(thread, attribute), []).append(thread.cpu)
    return {value: str(CPUSet(cpus)) for value, cpus in groups.items()}


def _cpu_lists(threads: list[_Thread], offline: CPUSet) -> dict[str, str]:
    present = CPUSet(thread.cpu for thread in threads)
    texts = {
        f"{CPU}/possible": f"{present}\n",
        f"{CPU}/present": f"{present}\n",
        f"{CPU}/online": f"{present - offline}\n",
        f"{CPU}/offline": f"{offline}\n",
    }
    # The first CPU cannot be switched off, and has no such file.
    for cpu in list(present)[1:]:
        texts[f"{CPU}/cpu{cpu}/online"] = "0\n" if cpu in offline else "1\n"
    return texts


def _core_texts(online: list[_Thread]) -> dict[str, str]:
    siblings = _cpu_lists_by(online, "core")
    texts = {}
    for thread in online:
        folder = f"{CPU}/cpu{thread.cpu}/topology"
        texts[f"{folder}/physical_package_id"] = f"{thread.package}\n"
        texts[f"{folder}/core_id"] = f"{thread.core_id}\n"
        texts[f"{folder}/core_cpus_list"] = f"{siblings[thread.core]}\n"
        texts[f"{folder}/thread_siblings_list"] = f"{siblings[thread.core]}\n"
    return texts


def _cache_texts(online: list[_Thread], machine: Machine) -> dict[str, str]:
    core = _cpu_lists_by(online, "core")
    l3_attribute = "package" if machine.l3_spans_package else "l3"
    l3 = _cpu_lists_by(online, l3_attribute)
    texts = {}
    for thread in online:
        rows = [
            (1, "Data", "48K", core[thread.core]),
            (1, "Instruction", "32K", core[thread.core]),
            (2, "Unified", "1024K", core[thread.core]),
            (3, "Unified", "32768K", l3[getattr(thread, l3_attribute)]),
        ]
        for index, (level, kind, size, cpus) in enumerate(rows):
            folder = f"{CPU}/cpu{thread.cpu}/cache/index{index}"
            texts[f"{folder}/level"] = f"{level}\n"
            texts[f"{folder}/type"] = f"{kind}\n"
            texts[f"{folder}/size"] = f"{size}\n"
            texts[f"{folder}/shared_cpu_list"] = f"{cpus}\n"
    return texts


def _core_type_texts(online: list[_Thread], machine: Machine) -> dict[str, str]:
    if machine.marked_by == "pmu":
        types = _cpu_lists_by(online, "efficient")
        return {
            "sys/devices/cpu_core/cpus": f"{types[False]}\n",
            "sys/devices/cpu_atom/cpus": f"{types[True]}\n",
        }
    best, lesser = (
        ("1024", "600") if machine.marked_by == "cpu_capacity" else ("5100000", "3300000")
    )
    return {
        f"{CPU}/cpu{t.cpu}/{machine.marked_by}": f"{lesser if t.efficient else best}\n"
        for t in online
    }


def _node_texts(online: list[_Thread], machine: Machine) -> dict[str, str]:
    num_nodes = machine.packages * machine.nodes
    ids = machine.node_ids or tuple(range(num_nodes))
    cpus = _cpu_lists_by(online, "node")
    texts = {
        f"{NODE}/node{ids[node]}/cpulist": f"{cpus.get(node, '')}\n" for node in range(num_nodes)
    }
    for node in machine.memory_only_nodes:
        texts[f"{NODE}/node{node}/cpulist"] = "\n"
    return texts


def _cpuinfo(thread: _Thread) -> str:
    return (
        f"processor\t: {thread.cpu}\nmodel name\t: Some Processor\n"
        f"physical id\t: {thread.package}\ncore id\t\t: {thread.core_id}\n"
    )
