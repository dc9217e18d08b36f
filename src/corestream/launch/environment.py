"""The environment variables of an instance: which are set, why, and what the user's own were.

    name               value                       set
    OMP_NUM_THREADS    CPUs of the instance        unless the user set it
    OMP_WAIT_POLICY    PASSIVE, ACTIVE             if `wait` is asked
    GOMP_SPINCOUNT     turns                       if `spin_count` is asked
    KMP_BLOCKTIME      0, infinite                 if `wait` is asked and Intel's or LLVM's OpenMP
                                                   runtime is preloaded
    LD_PRELOAD         the allocator, then what    if `allocator` is asked
                       the user preloads
    MALLOC_CONF        as ipexrun sets it          if jemalloc is asked, unless the user set it
    CORESTREAM_...     index, number               if there are several instances

What is asked replaces the user's variable; what only follows from it does not. Either is said.
OMP_PROC_BIND, OMP_PLACES, GOMP_CPU_AFFINITY and KMP_AFFINITY are never set: under them the OpenMP
runtime narrows the main thread to one CPU as torch loads, and every thread made later, the
streams of corestream included, inherits that mask instead of the instance's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from corestream.cpu.openmp import affinity_settings
from corestream.launch.options import LaunchOptions

JEMALLOC_CONF = "oversize_threshold:1,background_thread:true,metadata_thp:auto"
INDEX = "CORESTREAM_INSTANCE_INDEX"
NUMBER = "CORESTREAM_NUM_INSTANCES"

_WAIT = {"passive": ("PASSIVE", "0"), "active": ("ACTIVE", "infinite")}
_LLVM_RUNTIMES = ("libiomp5.so", "libomp.so", "libomp5.so")


@dataclass(frozen=True, kw_only=True)
class EnvironmentChange:
    """One variable: the value that the instance gets, the user's own, and why.

    `previous` is None where the user had not set it; where it equals `value` the user's stays.

    Example:
        >>> why = "one for each of the instance's CPUs"
        >>> change = EnvironmentChange(name="OMP_NUM_THREADS", value="4", previous=None, reason=why)
        >>> change.action
        'set'

    Thread-safe: a value that never changes; holds the GIL.
    """

    name: str
    value: str
    previous: str | None
    reason: str

    @property
    def action(self) -> Literal["set", "kept", "replaced"]:
        """What becomes of the user's variable."""
        if self.previous is None:
            return "set"
        return "kept" if self.previous == self.value else "replaced"

    def __str__(self) -> str:
        if self.action == "kept":
            return f"{self.name}={self.value} is yours and stays ({self.reason})"
        instead = f" instead of your {self.previous!r}" if self.action == "replaced" else ""
        return f"{self.name}={self.value}{instead} ({self.reason})"


def plan_environment(
    options: LaunchOptions,
    *,
    num_cpus: int,
    index: int,
    num_planned: int,
    environ: Mapping[str, str],
    allocator_path: str | None,
) -> tuple[EnvironmentChange, ...]:
    """Return what the environment of one instance differs in, and what of the user's is kept.

    Args:
        options: What is asked.
        num_cpus: CPUs of the instance.
        index: Which instance it is.
        num_planned: How many there are.
        environ: The user's variables.
        allocator_path: The library of `options.allocator`.

    Raises:
        ValueError: An allocator is asked, and its path is missing or cannot be preloaded.

    Thread-safe: touches no shared state; holds the GIL.
    """
    changes = [_derived("OMP_NUM_THREADS", str(num_cpus), environ, "CPUs of the instance")]
    changes += _allocator_changes(options, environ=environ, path=allocator_path)
    changes += _wait_changes(options, environ=environ)
    if num_planned > 1:
        changes.append(_asked(INDEX, str(index), environ, "which instance this is, from 0"))
        changes.append(_asked(NUMBER, str(num_planned), environ, "how many there are"))
    return tuple(change for change in changes if change is not None)


def environment_notes(
    options: LaunchOptions, *, num_cpus: int, environ: Mapping[str, str]
) -> list[str]:
    """Return what in the user's environment works against the plan, in words.

    Args:
        options: What is asked.
        num_cpus: CPUs of the largest instance.
        environ: The user's variables.

    Thread-safe: touches no shared state; holds the GIL.
    """
    notes = [
        f"{setting} is yours and stays: with it the OpenMP runtime pins threads itself and narrows "
        "the instance's mask; unset it"
        for setting in affinity_settings(environ)
    ]
    limit = environ.get("OMP_THREAD_LIMIT", "")
    if limit.isdecimal() and int(limit) < num_cpus:
        notes.append(
            f"OMP_THREAD_LIMIT={limit} is yours and stays: below the {num_cpus} CPUs of an "
            "instance torch's backward can hang; unset it"
        )
    mkl = environ.get("MKL_NUM_THREADS")
    if mkl not in (None, "", str(num_cpus)):
        notes.append(
            f"MKL_NUM_THREADS={mkl} is yours and stays: torch takes its intra-op threads from "
            f"it, not from OMP_NUM_THREADS, on {num_cpus} CPUs"
        )
    spins = environ.get("GOMP_SPINCOUNT")
    if options.wait != "default" and options.spin_count is None and spins:
        notes.append(
            f"GOMP_SPINCOUNT={spins} is yours and stays: libgomp takes it rather than "
            "OMP_WAIT_POLICY; unset it, or give spin_count"
        )
    return notes


def _derived(
    name: str, value: str, environ: Mapping[str, str], reason: str
) -> EnvironmentChange | None:
    """A variable that follows from something else: the user's own stays."""
    own = environ.get(name) or None
    if own is None:
        return EnvironmentChange(name=name, value=value, previous=None, reason=reason)
    if own == value:
        return None
    return EnvironmentChange(name=name, value=own, previous=own, reason=f"{reason}: {value}")


def _asked(
    name: str, value: str, environ: Mapping[str, str], reason: str
) -> EnvironmentChange | None:
    """A variable that was asked for on the command line: it replaces the user's own."""
    own = environ.get(name) or None
    if own == value:
        return None
    return EnvironmentChange(name=name, value=value, previous=own, reason=reason)


def _wait_changes(
    options: LaunchOptions, *, environ: Mapping[str, str]
) -> Iterator[EnvironmentChange | None]:
    if options.wait != "default":
        policy, block_time = _WAIT[options.wait]
        reason = f"wait={options.wait}; read once, when the OpenMP runtime loads"
        yield _asked("OMP_WAIT_POLICY", policy, environ, reason)
        if any(PurePath(lib).name.startswith(_LLVM_RUNTIMES) for lib in _preloads(environ)):
            yield _asked("KMP_BLOCKTIME", block_time, environ, f"{reason}, as your preload reads")
    if options.spin_count is not None:
        reason = "turns before a libgomp thread sleeps; read once, when libgomp loads"
        yield _asked("GOMP_SPINCOUNT", str(options.spin_count), environ, reason)


def _allocator_changes(
    options: LaunchOptions, *, environ: Mapping[str, str], path: str | None
) -> Iterator[EnvironmentChange | None]:
    if options.allocator == "default":
        return
    if path is None or any(character in path for character in ": \t\n"):
        raise ValueError(
            f"allocator_path must be a path without spaces or colons; got {path!r}; "
            "LD_PRELOAD separates paths by them"
        )
    own = environ.get("LD_PRELOAD", "")
    library = f"lib{options.allocator}"
    if not any(PurePath(lib).name.startswith(library) for lib in _preloads(environ)):
        # First, so that its malloc is found before another preloaded library's.
        value = f"{path}:{own}" if own else path
        yield _asked("LD_PRELOAD", value, environ, f"allocator={options.allocator}")
    if options.allocator == "jemalloc":
        yield _derived(
            "MALLOC_CONF", JEMALLOC_CONF, environ, "allocator=jemalloc; as ipexrun sets it"
        )


def _preloads(environ: Mapping[str, str]) -> list[str]:
    return environ.get("LD_PRELOAD", "").replace(":", " ").split()
