"""The test hook: pretend that this process may use other CPUs of another machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.machine import Topology


@dataclass(frozen=True, slots=True)
class Override:
    """What is pretended."""

    allowed: CPUSet
    topology: Topology


_current: Override | None = None


def current() -> Override | None:
    """Return what is pretended now, or None outside tests."""
    return _current


@contextmanager
def override_allowed(cpus: CPUSet, topology: Topology | None = None) -> Iterator[None]:
    """Replace the allowed CPUs, the topology and the quota (by none) of this process.

    For tests: a machine of 2 CPUs can try pools of 16. Only `corestream.cpu` is deceived; the
    kernel still refuses to pin a thread to a CPU that does not exist.

    Args:
        cpus: What `allowed_cpus()` returns inside; at least one CPU.
        topology: What `topology()` returns inside; by default `Topology.flat(cpus)`.

    Raises:
        TypeError: `cpus` is not a CPUSet.
        ValueError: `cpus` is empty.

    Example:
        >>> from corestream.cpu import CPUPool, CPUSet
        >>> with override_allowed(CPUSet.parse("0-15")):
        ...     len(CPUPool())
        16

    Not thread-safe: replaces the answer for the whole process; holds the GIL.
    """
    global _current
    if not isinstance(cpus, CPUSet):
        raise TypeError(f"cpus must be a CPUSet; got {cpus!r}; write CPUSet({cpus!r})")
    if not cpus:
        raise ValueError(f"cpus must be at least one CPU; got {cpus!r}; name a CPU")
    previous = _current
    _current = Override(cpus, topology or Topology.flat(cpus))
    try:
        yield
    finally:
        _current = previous
