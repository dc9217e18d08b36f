"""Which CPUs each instance gets: disjoint, allowed, within the budget, close to each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from corestream.cpu.budget import CPUBudget
from corestream.cpu.cpu_set import CPUSet, format_cpu_list, parse_cpu_list
from corestream.cpu.machine import Topology
from corestream.cpu.partition import Part, partition
from corestream.cpu.placement import choose_cores
from corestream.launch.options import LaunchOptions
from corestream.launch.slots import pick_parts

LATENCY_CORES = 4
"""Cores of an instance in latency mode, as in ipexrun and in MLPerf's realtime recipes."""

_SHARE = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The CPUs of each instance, and what is worth knowing about them."""

    parts: tuple[Part, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """The cores to hand out, one CPU for each, and how many of them may be busy."""

    cores: list[int]
    limit: int
    topology: Topology
    smt: bool = False
    notes: tuple[str, ...] = ()


def place(options: LaunchOptions, *, topology: Topology, budget: CPUBudget) -> Placement:
    """Return the CPUs of each instance; a pure function of what it is given.

    Args:
        options: What is asked.
        topology: The machine.
        budget: The CPUs that may be used and how many of them.

    Raises:
        ValueError: The options contradict each other or the machine.

    Thread-safe: touches no shared state; holds the GIL.
    """
    _check(options)
    if options.efficient_cores:
        # A machine whose cores are alike is what choose_cores takes all cores of.
        alike = tuple(replace(cpu, core_type=None) for cpu in topology.cpus)
        topology = replace(topology, cpus=alike)
    pool = _pool(options, topology=topology, budget=budget)
    pool = _share(options, pool)
    cores, notes = _divide(options, pool)
    parts = cores
    if pool.smt:
        parts = [_with_siblings(part, topology=topology, allowed=budget.allowed) for part in cores]
    straddling = sum(len({topology.locality(cpu)[1] for cpu in part}) > 1 for part in parts)
    if straddling and len(parts) > 1:
        notes.append(f"{straddling} of {len(parts)} instances straddle NUMA nodes")
    return Placement(parts=tuple(parts), notes=(*pool.notes, *notes))


def parse_slice(text: str) -> tuple[int, int] | None:
    """Return (i, n) of `i/n`, or None for `auto`.

    Args:
        text: The value of the option.

    Raises:
        ValueError: It is neither.
    """
    if text == "auto":
        return None
    match = _SHARE.fullmatch(text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError(
            f"slice must be auto or i/n with i from 0 to n-1; got {text!r}; the first of two "
            "shares is 0/2"
        )
    return int(match[1]), int(match[2])


def _check(options: LaunchOptions) -> None:
    for name in ("instances", "cores_per_instance"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; got {value!r}; leave it out for all")
    mode = "latency_mode" if options.latency_mode else "throughput_mode"
    if options.latency_mode and options.throughput_mode:
        raise ValueError("latency_mode must be without throughput_mode; got both; choose one")
    counts = options.instances, options.cores_per_instance
    if (options.latency_mode or options.throughput_mode) and counts != (None, None):
        raise ValueError(
            f"{mode} must be without instances and cores_per_instance; got instances={counts[0]}, "
            f"cores_per_instance={counts[1]}; the mode decides both"
        )
    if options.cpus is not None and options.node is not None:
        raise ValueError("cpus must be without node; got both; cpus already says which CPUs")
    if options.slice is None:
        return
    is_sized = options.cores_per_instance is not None or options.latency_mode
    if parse_slice(options.slice) is None and not is_sized:
        raise ValueError(
            "slice must be i/n unless cores_per_instance is given; got 'auto'; the first "
            "starter would take every core"
        )


def _pool(options: LaunchOptions, *, topology: Topology, budget: CPUBudget) -> _Pool:
    if options.cpus is not None:
        return _explicit_pool(options, topology=topology, budget=budget)
    allowed = budget.allowed
    if options.node is not None:
        allowed &= _cpus_of_nodes(options.node, topology=topology)
        if not allowed:
            raise ValueError(
                f"node must be a NUMA node with an allowed CPU; got {options.node!r}; "
                f"the allowed CPUs are {budget.allowed}"
            )
    cores = choose_cores(allowed, len(allowed), topology=topology)
    count = min(budget.count, len(allowed))
    limit = 0
    if options.smt:
        widths = [len(_siblings(cpu, topology=topology) & allowed) for cpu in cores]
        limit = _cores_within(count, widths)
    if limit:
        return _Pool(cores=cores, limit=limit, topology=topology, smt=True)
    return _Pool(cores=cores, limit=min(count, len(cores)), topology=topology)


def _explicit_pool(options: LaunchOptions, *, topology: Topology, budget: CPUBudget) -> _Pool:
    text, is_auto = options.cpus or "", options.slice == "auto"
    cores = parse_cpu_list(text, parameter="cpus")
    if len(set(cores)) < len(cores):
        raise ValueError(f"cpus must be distinct; got {text!r}; name each CPU once")
    if is_auto:
        cores = [cpu for cpu in cores if cpu in budget.allowed]  # the others are claimed
    foreign = CPUSet(cores) - budget.allowed
    if foreign:
        raise ValueError(
            f"cpus must be CPUs that may be used; got {foreign} among them; the allowed CPUs are "
            f"{budget.allowed}, see python -m corestream.cpu"
        )
    pool = _Pool(cores=cores, limit=len(cores), topology=topology)
    if len(cores) <= budget.count:
        return pool
    note = (
        f"{len(cores)} CPUs are named, and the CPU budget is {budget.count}: the kernel stops "
        "more threads than that for part of every period"
    )
    return replace(pool, notes=(note,))


def _cpus_of_nodes(text: str, *, topology: Topology) -> CPUSet:
    known = [node.numa_node_id for node in topology.numa_nodes]
    cpus = CPUSet()
    for node in parse_cpu_list(text, parameter="node"):
        if node not in known:
            raise ValueError(
                f"node must be among the NUMA nodes {format_cpu_list(known)}; got {text!r}; "
                "see corestream topo"
            )
        cpus |= topology.cpus_of_numa_node(node)
    return cpus


def _cores_within(count: int, widths: Iterable[int]) -> int:
    """Return how many cores hold at most `count` CPUs, whichever are chosen."""
    cores = 0
    for width in sorted(widths, reverse=True):
        count -= width
        if count < 0:
            break
        cores += 1
    return cores


def _share(options: LaunchOptions, pool: _Pool) -> _Pool:
    """Return the part of the pool that `slice=i/n` leaves."""
    share = None if options.slice is None else parse_slice(options.slice)
    if share is None:
        return pool
    index, count = share
    if count > pool.limit:
        raise ValueError(
            f"slice must be of at most the {pool.limit} cores that may be used; got "
            f"{options.slice!r}; ask for fewer shares"
        )
    cores = list(partition(_all(pool), count, topology=pool.topology)[index])
    return replace(pool, cores=cores, limit=len(cores))


def _all(pool: _Pool) -> list[int]:
    """Return as many cores of the pool as may be busy."""
    if pool.limit == len(pool.cores):
        return pool.cores
    return choose_cores(CPUSet(pool.cores), pool.limit, topology=pool.topology)


def _divide(options: LaunchOptions, pool: _Pool) -> tuple[list[Part], list[str]]:
    """Return the cores of each instance, and notes."""
    if options.throughput_mode:
        return _by_node(_all(pool), topology=pool.topology), []
    size = options.cores_per_instance
    if options.latency_mode:
        size = min(LATENCY_CORES, pool.limit)
    if size is None:
        count = options.instances or 1
        _check_fits(pool, instances=count, size=1)
        if count == 1:
            return [tuple(_all(pool))], []
        if pool.limit == len(pool.cores):
            return list(partition(pool.cores, count, topology=pool.topology)), []
        return _pick(options, pool, sizes=_nearly_equal(pool.limit, count)), []
    is_alone = options.slice == "auto"
    count = options.instances or (
        1 if is_alone and not options.latency_mode else _most_instances(pool, size)
    )
    _check_fits(pool, instances=count, size=size)
    parts = _pick(options, pool, sizes=[size] * count)
    idle = pool.limit - count * size
    if options.instances is None and not is_alone and idle >= size:
        text = f"{idle} cores stay idle: another instance would straddle NUMA nodes; "
        return parts, [f"{text}ask for {pool.limit // size} instances to use them"]
    return parts, []


def _by_node(cores: Sequence[int], *, topology: Topology) -> list[Part]:
    def node(cpu: int) -> tuple[int, int]:
        return topology.locality(cpu)[:2]

    return [tuple(group) for _, group in groupby(sorted(cores, key=node), key=node)]


def _most_instances(pool: _Pool, size: int) -> int:
    """Return how many instances there are to be; none straddles nodes if it can fit in one."""
    within = sum(len(node) // size for node in _by_node(pool.cores, topology=pool.topology))
    return min(pool.limit // size, within or pool.limit)


def _check_fits(pool: _Pool, *, instances: int, size: int) -> None:
    if max(instances, 1) * size <= pool.limit:
        return
    name, value = ("instances", instances) if size == 1 else ("cores_per_instance", size)
    times = f" for each of {instances} instances" if size > 1 and instances > 1 else ""
    raise ValueError(
        f"{name} must fit in the {pool.limit} cores that may be used; got {value!r}{times}; "
        "see python -m corestream.cpu, or name CPUs with cpus"
    )


def _nearly_equal(total: int, count: int) -> list[int]:
    size, larger = divmod(total, count)
    return [size + 1] * larger + [size] * (count - larger)


def _pick(options: LaunchOptions, pool: _Pool, *, sizes: list[int]) -> list[Part]:
    if sum(sizes) == len(pool.cores) and len(set(sizes)) == 1:
        return list(partition(pool.cores, len(sizes), topology=pool.topology))
    return pick_parts(
        pool.cores, sizes, topology=pool.topology, scatter=options.strategy == "scatter"
    )


def _with_siblings(part: Part, *, topology: Topology, allowed: CPUSet) -> Part:
    cpus: list[int] = []
    for cpu in part:
        siblings = _siblings(cpu, topology=topology) & allowed
        cpus += [cpu, *(sibling for sibling in siblings if sibling != cpu)]
    return tuple(cpus)


def _siblings(cpu: int, *, topology: Topology) -> CPUSet:
    """Return the CPUs of the same core; one that the topology does not know is alone."""
    return topology.smt_siblings(cpu) if cpu in topology.online else CPUSet([cpu])
