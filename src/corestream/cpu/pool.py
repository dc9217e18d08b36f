"""`CPUPool`: an ordered group of logical CPUs reserved for one purpose."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from operator import index
from typing import NoReturn

from corestream.cpu.allowed import allowed_cpus
from corestream.cpu.budget import cpu_budget
from corestream.cpu.cpu_set import CPUSet, check_cpu_id, format_cpu_list, parse_cpu_list
from corestream.cpu.partition import partition
from corestream.cpu.placement import choose_cores
from corestream.cpu.topology import topology
from corestream.errors import CorestreamWarning


class CPUPool:
    """An ordered group of logical CPUs, for a stream, an executor or a `with pin(...)` block.

    Without arguments: one logical CPU per physical core of the allowed CPUs, as many as the CPU
    budget permits, in whole L3 domains and NUMA nodes first; on a hybrid machine performance
    cores only, if any is allowed.

    Args:
        core_ids: Logical CPU ids: a list, tuple, range, CPUSet or text such as `"0-3"`, in the
            order in which threads take them. Ids that this process may not use are dropped,
            with a warning.
        node_id: A NUMA node; the pool is that node's allowed physical cores. Ignored, with a
            warning, if `core_ids` is given.

    Raises:
        TypeError: `core_ids` or `node_id` is of another type.
        ValueError: An id is negative or given twice, the node does not exist, or no CPU is left.

    Example:
        >>> pool = CPUPool()
        >>> pool == CPUPool(pool.core_ids) and pool.split(1) == [pool]
        True

    Source: `ipex.cpu.runtime.CPUPool` of Intel Extension for PyTorch, with its defects mended.

    Thread-safe: a value that never changes; holds the GIL.
    """

    __slots__ = ("_core_ids",)
    _core_ids: tuple[int, ...]

    def __init__(
        self,
        core_ids: Iterable[int] | str | None = None,
        node_id: int | None = None,
    ) -> None:
        if node_id is not None:
            node_id = _check_integer(node_id, parameter="node_id")
        if core_ids is not None:
            chosen = _keep_allowed(_read_core_ids(core_ids))
            if node_id is not None:
                message = (
                    f"node_id={node_id} is ignored because core_ids is given; pass one of them"
                )
                warnings.warn(message, CorestreamWarning, stacklevel=2)
        elif node_id is not None:
            chosen = get_core_list_of_node_id(node_id)
            if not chosen:
                raise ValueError(
                    f"node_id must be a NUMA node with an allowed CPU; got {node_id!r}; "
                    f"{_describe_allowed()}"
                )
        else:
            budget = cpu_budget()
            chosen = choose_cores(budget.allowed, budget.count, topology=topology())
        object.__setattr__(self, "_core_ids", tuple(chosen))

    @property
    def core_ids(self) -> list[int]:
        """The logical CPU ids in order, as a new list each time."""
        return list(self._core_ids)

    def split(self, n: int) -> list[CPUPool]:
        """Cut the pool into `n` pools, for one stream each.

        Args:
            n: Number of parts, 1 to len(self).

        Returns:
            Disjoint pools that together hold every CPU; the first `len(self) % n` are one CPU
            larger. Consecutive slices, unless another cut keeps more parts within one NUMA node
            or L3 domain.

        Raises:
            TypeError: `n` is not an integer.
            ValueError: `n` is less than 1 or more than the CPUs of the pool.

        Example:
            >>> [len(part) for part in CPUPool().split(1)] == [len(CPUPool())]
            True

        Thread-safe; holds the GIL.
        """
        n = _check_integer(n, parameter="n")
        if not 1 <= n <= len(self):
            raise ValueError(
                f"n must be from 1 to the {len(self)} CPUs of the pool; got {n!r}; "
                "ask for fewer parts or use a larger pool"
            )
        return [_pool_of(part) for part in partition(self._core_ids, n, topology=topology())]

    def slice(self, i: int, n: int) -> CPUPool:
        """Return the share of worker `i` of `n`: processes that agree on n never overlap.

        Args:
            i: Index of the worker, 0 to n-1.
            n: Number of workers, 1 to len(self).

        Returns:
            `self.split(n)[i]`.

        Raises:
            TypeError: `i` or `n` is not an integer.
            ValueError: `i` or `n` is out of range.

        Example:
            >>> CPUPool().slice(0, 1) == CPUPool()
            True

        Thread-safe; holds the GIL.
        """
        i = _check_integer(i, parameter="i")
        parts = self.split(n)
        if not 0 <= i < len(parts):
            raise ValueError(
                f"i must be from 0 to {len(parts) - 1}, the last of {len(parts)} workers; "
                f"got {i!r}; count workers from 0"
            )
        return parts[i]

    def __len__(self) -> int:
        return len(self._core_ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CPUPool):
            return NotImplemented
        return self._core_ids == other._core_ids

    def __hash__(self) -> int:
        return hash(self._core_ids)

    def __repr__(self) -> str:
        return f"CPUPool({format_cpu_list(self._core_ids)!r})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"CPUPool is immutable; cannot set {name!r}; make a new CPUPool")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"CPUPool is immutable; cannot delete {name!r}; make a new CPUPool")

    def __reduce__(self) -> tuple[type[CPUPool], tuple[list[int]]]:
        # Through the constructor: another process may have other allowed CPUs.
        return (CPUPool, (self.core_ids,))


def get_core_list_of_node_id(node_id: int) -> list[int]:
    """Return the allowed physical cores of a NUMA node, one logical CPU each.

    Args:
        node_id: The OS's number of the node; numbers may have holes.

    Returns:
        CPU ids by package, L3 domain, id; empty if no CPU of the node is allowed.

    Raises:
        TypeError: `node_id` is not an integer.
        ValueError: The machine has no such node.

    Example:
        >>> node = topology().numa_nodes[0].numa_node_id
        >>> set(get_core_list_of_node_id(node)) <= set(allowed_cpus())
        True

    Thread-safe; holds the GIL, except inside the reads.
    """
    node_id = _check_integer(node_id, parameter="node_id")
    machine = topology()
    known = [node.numa_node_id for node in machine.numa_nodes]
    if node_id not in known:
        raise ValueError(
            f"node_id must be one of the NUMA nodes {known}; got {node_id!r}; "
            "see corestream.cpu.topology().numa_nodes"
        )
    return machine.one_cpu_per_core(allowed_cpus() & machine.cpus_of_numa_node(node_id))


def _pool_of(core_ids: tuple[int, ...]) -> CPUPool:
    """Make a pool of ids that a pool has already checked."""
    pool = CPUPool.__new__(CPUPool)
    object.__setattr__(pool, "_core_ids", core_ids)
    return pool


def _read_core_ids(core_ids: object) -> list[int]:
    """Return the ids in order; duplicates and anything that is not an id raise."""
    if isinstance(core_ids, str):
        ids = parse_cpu_list(core_ids, parameter="core_ids")
    elif not isinstance(core_ids, Iterable) or isinstance(core_ids, bytes | bytearray | Mapping):
        raise TypeError(
            f"core_ids must be a list, tuple, range, CPUSet or a string such as '0-3'; "
            f"got {core_ids!r}; for a single CPU write [{core_ids!r}]"
        )
    else:
        ids = (
            list(CPUSet(core_ids))
            if isinstance(core_ids, AbstractSet)
            else [check_cpu_id(cpu, parameter="core_ids") for cpu in core_ids]
        )
    duplicates = len(ids) - len(set(ids))
    if duplicates:
        repeated = CPUSet(cpu for cpu in set(ids) if ids.count(cpu) > 1)
        raise ValueError(f"core_ids must be distinct; got {core_ids!r}; name {repeated} once")
    if not ids:
        raise ValueError(
            f"core_ids must name at least one CPU; got {core_ids!r}; leave it out "
            "for the default pool"
        )
    return ids


def _keep_allowed(ids: list[int]) -> list[int]:
    allowed = allowed_cpus()
    kept = [cpu for cpu in ids if cpu in allowed]
    if not kept:
        raise ValueError(
            f"core_ids must name a CPU that this process may use; got {format_cpu_list(ids)!r}; "
            f"{_describe_allowed()}"
        )
    if len(kept) < len(ids):
        dropped = CPUSet(cpu for cpu in ids if cpu not in allowed)
        warnings.warn(
            f"core_ids must be CPUs that this process may use; dropped {dropped}; "
            f"{_describe_allowed()}",
            CorestreamWarning,
            stacklevel=3,
        )
    return kept


def _describe_allowed() -> str:
    return f"the allowed CPUs are {allowed_cpus()}, see corestream.cpu.cpu_budget().reasons"


def _check_integer(value: object, *, parameter: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{parameter} must be an integer; got {value!r}; write for example 1")
    return index(value)
