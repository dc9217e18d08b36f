"""The words around a picture: what the machine has, what is ours, what the colours mean."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.machine import Topology
from corestream.topo.picture import Picture, State
from corestream.topo.tree import format_size

MAX_LIST = 28
"""Longest CPU list to write out; more than that nobody reads."""

MAX_STREAMS = 12
"""Most streams to name one by one."""

_CACHE_NAMES = {1: "L1d", 2: "L2"}

LABELS: dict[State, str] = {
    "outside": "not allowed",
    "allowed": "allowed, not in the pool",
    "pool": "pool",
}


def headline(picture: Picture) -> str:
    """Return what the machine is, in a line.

    Args:
        picture: The picture.
    """
    machine = picture.topology
    counts = [
        _count(len(machine.packages), "package"),
        _count(len(machine.numa_nodes), "NUMA node"),
        *([_count(len(machine.l3_domains), "L3 domain")] if machine.l3_domains else []),
        _count(len(machine.cores), "core"),
        _count(len(machine.online), "CPU"),
    ]
    name = [picture.model_name] if picture.model_name else []
    return ": ".join([*name, ", ".join(counts)])


def summary(picture: Picture) -> list[str]:
    """Return lines about what of the machine is ours, and what is not in the boxes.

    Args:
        picture: The picture.
    """
    machine, budget = picture.topology, picture.budget
    count = _count(len(budget.allowed), "CPU")
    allowed = f"Allowed: {short_list(budget.allowed)} ({count}). {budget.reasons[-1]}."
    lines = [allowed, *_caches(machine)]
    memory_only = CPUSet(node.numa_node_id for node in machine.numa_nodes if not node.cpus)
    if memory_only:
        lines.append(f"Memory without CPUs: NUMA nodes {memory_only}.")
    offline = CPUSet(cpu.cpu_id for cpu in machine.cpus if not cpu.online)
    if offline:
        lines.append(f"Switched off: CPUs {short_list(offline)}.")
    lines += [f"Note: {note}" for note in machine.notes]
    return lines


def legend(picture: Picture) -> list[tuple[tuple[State, ...], str]]:
    """Return what the colours that occur mean: those of many streams together.

    Args:
        picture: The picture.
    """
    labels = {**LABELS, "pool": f"pool: {short_list(picture.pool)}"}
    if picture.streams:
        labels["allowed"] = "allowed, no stream"
    present = set(picture.states.values())
    entries: list[tuple[tuple[State, ...], str]] = [
        ((state,), text) for state, text in labels.items() if state in present
    ]
    if len(picture.streams) <= MAX_STREAMS:
        named = enumerate(picture.streams)
        return entries + [((i,), f"stream {i}: {short_list(part)}") for i, part in named]
    last = len(picture.streams) - 1
    sizes = sorted({len(part) for part in picture.streams})
    each = f"{' or '.join(map(str, sizes))} {'CPU' if sizes == [1] else 'CPUs'}"
    return [*entries, ((0, 1, 2, 3), f"streams 0 to {last}, {each} each")]


def short_list(cpus: Iterable[int]) -> str:
    """Return a CPU list that has room in a picture.

    Args:
        cpus: CPU ids.
    """
    ids = sorted(cpus)
    steps = {b - a for a, b in pairwise(ids)}
    if len(ids) > 3 and len(steps) == 1 and steps != {1}:
        return f"{ids[0]}-{ids[-1]} in steps of {steps.pop()}"
    text = str(CPUSet(ids))
    return text if len(text) <= MAX_LIST else f"{len(ids)} CPUs from {ids[0]} to {ids[-1]}"


def cache_texts(machine: Topology) -> dict[int, str]:
    """Return what to say of the first and second level caches of each CPU.

    Args:
        machine: The machine.
    """
    core_of = {cpu: index for index, core in enumerate(machine.cores) for cpu in core.cpus}
    texts: dict[int, dict[str, str]] = {cpu: {} for cpu in machine.online}
    for cache in machine.caches:
        if cache.kind == "instruction" or cache.level not in _CACHE_NAMES:
            continue
        sharers = len({core_of[cpu] for cpu in cache.cpus})
        name = _CACHE_NAMES[cache.level]
        shared = f" for {sharers} cores" if sharers > 1 else ""
        for cpu in cache.cpus:
            texts[cpu][name] = f"{name} {format_size(cache.size_bytes)}{shared}"
    return {cpu: ", ".join(levels.values()) for cpu, levels in texts.items()}


def _caches(machine: Topology) -> list[str]:
    if any(core.core_type for core in machine.cores):
        return []  # told type by type, beside the cores
    texts = sorted(set(cache_texts(machine).values()) - {""})
    return [f"Each core: {'; or '.join(texts)}."] if texts else []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
