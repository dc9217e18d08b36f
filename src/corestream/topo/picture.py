"""What a picture of a machine shows: its CPUs, and whose each of them is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from corestream.cpu.budget import CPUBudget, cpu_budget
from corestream.cpu.cpu_set import CPUSet, format_cpu_list, parse_cpu_list
from corestream.cpu.machine import Topology
from corestream.cpu.partition import Part, partition
from corestream.cpu.placement import choose_cores
from corestream.cpu.procfs import read_cpu_name
from corestream.cpu.report import describe
from corestream.cpu.system_files import SystemFiles
from corestream.cpu.topology import check_root, is_live, topology

State = int | Literal["outside", "allowed", "pool"]
"""Whose a CPU is: another's, ours but unused, of the pool, or of the stream with that index."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A machine, the CPUs that this process may use of it, and how streams would share them.

    `pool` are the CPUs that `CPUPool()` takes, or those that were asked for; `streams` are the
    parts into which an executor of that many streams cuts them, none if none were asked for.

    Example:
        >>> picture = read_picture(num_streams=1)
        >>> picture.streams == (picture.pool,)
        True

    Thread-safe: a value that never changes; holds the GIL.
    """

    topology: Topology
    budget: CPUBudget
    pool: Part
    streams: tuple[Part, ...] = ()
    model_name: str | None = None

    @cached_property
    def states(self) -> Mapping[int, State]:
        """The state of every online CPU, by id."""
        states: dict[int, State] = dict.fromkeys(self.topology.online, "outside")
        states.update(dict.fromkeys(self.budget.allowed, "allowed"))
        states.update(dict.fromkeys(self.pool, "pool"))
        for index, part in enumerate(self.streams):
            states.update(dict.fromkeys(part, index))
        return states


def read_picture(
    root: str | os.PathLike[str] = "/",
    *,
    cpus: str | None = None,
    num_streams: int | None = None,
) -> Picture:
    """Find out what to draw, on this machine or from the text that describes another.

    The streams are cut as `CPUPool.split`, and so `TaskExecutor`, would cut them there.

    Args:
        root: The folder that stands for `/`; `python -m corestream.cpu gather DIR` makes one.
        cpus: The CPUs of the pool, such as `0-7`; those of `CPUPool()` by default.
        num_streams: Into how many streams to cut the pool; by default it is not cut.

    Returns:
        The picture.

    Raises:
        ValueError: The folder holds no machine, `cpus` names none that is allowed, or the pool has
            fewer CPUs than `num_streams`.

    Example:
        >>> len(read_picture(num_streams=1).streams)
        1

    Thread-safe; holds the GIL, except inside the reads.
    """
    check_root(root)
    machine, budget = topology(root), cpu_budget(root)
    if cpus is None:
        pool = tuple(choose_cores(budget.allowed, budget.count, topology=machine))
    else:
        pool = _choose(cpus, budget.allowed)
    streams: tuple[Part, ...] = ()
    if num_streams is not None:
        if not 1 <= num_streams <= len(pool):
            raise ValueError(
                f"num_streams must be from 1 to the {len(pool)} CPUs of the pool; "
                f"got {num_streams!r}; ask for fewer streams or name more CPUs"
            )
        streams = tuple(partition(pool, num_streams, topology=machine))
    return Picture(
        topology=machine,
        budget=budget,
        pool=pool,
        streams=streams,
        # A gathered tree does not tell it: its cpuinfo holds what the topology needs.
        model_name=read_cpu_name(SystemFiles(root)) if is_live(root) else None,
    )


def describe_picture(picture: Picture, *, root: str | os.PathLike[str] = "/") -> dict[str, Any]:
    """Return a picture as plain data, for JSON.

    Args:
        picture: What `read_picture` found.
        root: Where it found it.

    Returns:
        What `python -m corestream.cpu` prints, and `pool`, `streams` and `model_name`.

    Example:
        >>> picture = read_picture(num_streams=1)
        >>> describe_picture(picture)["streams"][0]["core_ids"] == list(picture.pool)
        True

    Thread-safe; holds the GIL, except inside the reads.
    """
    machine = picture.topology
    return {
        "model_name": picture.model_name,
        **describe(root),
        "pool": list(picture.pool),
        "streams": [
            {
                "stream": index,
                "core_ids": list(part),
                "numa_nodes": sorted({machine.locality(cpu)[1] for cpu in part}),
                "l3_domains": sorted({machine.locality(cpu)[2] for cpu in part}),
            }
            for index, part in enumerate(picture.streams)
        ],
    }


def _choose(cpus: str, allowed: CPUSet) -> Part:
    ids = parse_cpu_list(cpus, parameter="cpus")
    foreign = CPUSet(ids) - allowed
    if foreign or len(set(ids)) < len(ids):
        wanted = "among the allowed CPUs" if foreign else "named once each"
        raise ValueError(
            f"cpus must be {wanted}; got {format_cpu_list(ids)!r}; the allowed CPUs are {allowed}"
        )
    return tuple(ids)
