"""`CPUSet`: an immutable set of logical CPU ids, and its text form, the Linux CPU list `0-3,8`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import index
from typing import NoReturn

MAX_CPU_ID = 2**31 - 1
"""Largest CPU id: ids are C `int`s in the kernel's and in OpenMP's interfaces."""

MAX_CPUS = 2**20
"""Most CPUs a set may hold; stops `0-2147483647` from eating the memory. Linux stops at 8192."""

_ITEM = re.compile(r"([0-9]+)(?:-([0-9]+))?")


class CPUSet:
    """An immutable set of logical CPU ids, iterated in ascending order.

    The value type for "which CPUs": affinity masks, cgroup cpusets, the CPUs of a NUMA node.

    Args:
        cpus: Logical CPU ids, 0 to 2147483647; duplicates count once.

    Raises:
        TypeError: `cpus` is text, or an id is not an integer (a bool is not one).
        ValueError: An id is negative or too large, or there are more than 1048576.

    Example:
        >>> cpus = CPUSet([8, 0, 1, 2, 3])
        >>> str(cpus), len(cpus), 2 in cpus
        ('0-3,8', 5, True)
        >>> cpus & CPUSet.parse("2-9") | CPUSet([5])
        CPUSet.parse('2-3,5,8')

    Source: the list format of cpuset(7).

    Thread-safe: a value that never changes; holds the GIL.
    """

    __slots__ = ("_ids", "_members")
    _ids: tuple[int, ...]
    _members: frozenset[int]

    def __init__(self, cpus: Iterable[int] = (), /) -> None:
        if isinstance(cpus, str | bytes | bytearray):
            raise TypeError(
                f"cpus must be an iterable of CPU ids; got {cpus!r}; "
                "use CPUSet.parse for the text form"
            )
        members = frozenset(
            check_cpu_id(cpu, parameter="cpus") for cpu in islice(cpus, MAX_CPUS + 1)
        )
        _check_count(len(members))
        object.__setattr__(self, "_members", members)
        object.__setattr__(self, "_ids", tuple(sorted(members)))

    @classmethod
    def parse(cls, text: str, /) -> CPUSet:
        """Read the Linux CPU list format, so that sysfs text and user options share one reader.

        Args:
            text: Ids and ascending ranges separated by commas, such as `0-3,8`.

        Returns:
            The set of the CPUs named; naming a CPU twice is harmless.

        Raises:
            TypeError: `text` is not a string.
            ValueError: `text` is empty or malformed; the message says where and why.

        Example:
            >>> CPUSet.parse("4,0-1") == CPUSet([0, 1, 4])
            True
            >>> CPUSet.parse("2-1")
            Traceback (most recent call last):
            ...
            ValueError: text must be a CPU list with ascending ranges; got '2-1'; write '1-2'

        Thread-safe: touches no shared state; holds the GIL.
        """
        return cls(parse_cpu_list(text))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"CPUSet is immutable; cannot set {name!r}; build a new CPUSet")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"CPUSet is immutable; cannot delete {name!r}; build a new CPUSet")

    def __reduce__(self) -> tuple[type[CPUSet], tuple[tuple[int, ...]]]:
        return (CPUSet, (self._ids,))

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, cpu: object) -> bool:
        return cpu in self._members

    def __hash__(self) -> int:
        return hash(self._members)

    def __eq__(self, other: object) -> bool:
        return self._members == other._members if isinstance(other, CPUSet) else NotImplemented

    def __le__(self, other: CPUSet) -> bool:
        if not isinstance(other, CPUSet):
            return NotImplemented
        return self._members <= other._members

    def __lt__(self, other: CPUSet) -> bool:
        if not isinstance(other, CPUSet):
            return NotImplemented
        return self._members < other._members

    def __ge__(self, other: CPUSet) -> bool:
        if not isinstance(other, CPUSet):
            return NotImplemented
        return self._members >= other._members

    def __gt__(self, other: CPUSet) -> bool:
        if not isinstance(other, CPUSet):
            return NotImplemented
        return self._members > other._members

    def __and__(self, other: CPUSet) -> CPUSet:
        if not isinstance(other, CPUSet):
            return NotImplemented
        return CPUSet(self._members & other._members)

    def __or__(self, other: CPUSet) -> CPUSet:
        if not isinstance(other, CPUSet):
            return NotImplemented
        return CPUSet(self._members | other._members)

    def __sub__(self, other: CPUSet) -> CPUSet:
        if not isinstance(other, CPUSet):
            return NotImplemented
        return CPUSet(self._members - other._members)

    def __xor__(self, other: CPUSet) -> CPUSet:
        if not isinstance(other, CPUSet):
            return NotImplemented
        return CPUSet(self._members ^ other._members)

    def __str__(self) -> str:
        return format_cpu_list(self._ids)

    def __repr__(self) -> str:
        return f"CPUSet.parse({str(self)!r})" if self else "CPUSet()"


def check_cpu_id(value: object, *, parameter: str) -> int:
    """Return `value` as a plain int, or raise an error that names `parameter`.

    Args:
        value: Anything with `__index__` (an int, a NumPy integer), except a bool.
        parameter: The name to blame in the message.

    Returns:
        The id, 0 to 2147483647.

    Raises:
        TypeError: Not an integer.
        ValueError: Negative or too large.

    Example:
        >>> check_cpu_id(3, parameter="core_ids")
        3

    Thread-safe: touches no shared state; holds the GIL.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(
            f"{parameter} must be made of integers; got {value!r}; use CPU ids such as 0"
        )
    cpu = index(value)
    if not 0 <= cpu <= MAX_CPU_ID:
        raise ValueError(
            f"{parameter} must be made of ids from 0 to {MAX_CPU_ID}; got {cpu!r}; "
            "see corestream.cpu.allowed_cpus() for the ids of this process"
        )
    return cpu


def parse_cpu_list(text: str, *, parameter: str = "text") -> list[int]:
    """Read a CPU list and keep its order and duplicates, which a set would lose.

    Args:
        text: Ids and ascending ranges separated by commas, such as `4-7,0`.
        parameter: The name to blame in the message.

    Returns:
        The ids in the order written.

    Raises:
        TypeError: `text` is not a string.
        ValueError: `text` is empty or malformed.

    Example:
        >>> parse_cpu_list("4-6,0")
        [4, 5, 6, 0]

    Thread-safe: touches no shared state; holds the GIL.
    """
    if not isinstance(text, str):
        raise TypeError(f"{parameter} must be a string; got {text!r}; write for example '0-3,8'")
    if not text.strip():
        raise ValueError(
            f"{parameter} must be a CPU list that names a CPU; got {text!r}; "
            "write for example '0-3,8'"
        )
    cpus: list[int] = []
    for item in text.split(","):
        first, last = _parse_item(item.strip(), text, parameter=parameter)
        _check_count(len(cpus) + last - first + 1)
        cpus.extend(range(first, last + 1))
    return cpus


def format_cpu_list(cpus: Iterable[int]) -> str:
    """Write ids as a CPU list in the order given, ascending runs joined to ranges.

    Args:
        cpus: CPU ids.

    Returns:
        Text that `parse_cpu_list` turns back into the same ids; empty for no ids.

    Example:
        >>> format_cpu_list([4, 5, 6, 0])
        '4-6,0'

    Thread-safe: touches no shared state; holds the GIL.
    """
    runs: list[tuple[int, int]] = []
    for cpu in cpus:
        if runs and cpu == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], cpu)
        else:
            runs.append((cpu, cpu))
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _parse_item(item: str, text: str, *, parameter: str) -> tuple[int, int]:
    match = _ITEM.fullmatch(item)
    if match is None:
        reason = _why_malformed(item)
        raise ValueError(
            f"{parameter} must be a CPU list {reason}; got {text!r}; write for example '0-3,8'"
        )
    first = _digits_to_id(match[1])
    last = _digits_to_id(match[2] or match[1])
    if max(first, last) > MAX_CPU_ID:
        raise ValueError(
            f"{parameter} must be a CPU list of ids up to {MAX_CPU_ID}; got {text!r}; "
            "see corestream.cpu.allowed_cpus() for the ids of this process"
        )
    if last < first:
        raise ValueError(
            f"{parameter} must be a CPU list with ascending ranges; got {text!r}; "
            f"write '{last}-{first}'"
        )
    return first, last


def _digits_to_id(digits: str) -> int:
    # int() refuses more than 4300 digits with a message of its own; any 11 digits are too many.
    return int((digits.lstrip("0") or "0")[:11])


def _why_malformed(item: str) -> str:
    if not item:
        return "without empty items"
    if re.fullmatch(r"-[0-9]+", item):
        return "without negative ids"
    if re.fullmatch(r"[0-9]+(-[0-9]+){2,}", item):
        return "whose ranges have two ends"
    return "of decimal ids and ranges"


def _check_count(count: int) -> None:
    if count > MAX_CPUS:
        raise ValueError(
            f"cpus must be at most {MAX_CPUS} CPUs; got {count!r} or more; "
            "name only CPUs that exist"
        )
