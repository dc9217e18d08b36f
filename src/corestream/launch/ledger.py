"""Cores for processes that start without knowing of each other: a ledger that the kernel keeps.

    with claim_cores(4) as lease:      # a gunicorn worker, say
        executor = TaskExecutor(lease.pool())

The ledger is a folder of lock files in memory, one folder per user. Containers have one each,
unless they share a folder that CORESTREAM_LEDGER_DIR names.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from corestream.cpu.budget import CPUBudget, cpu_budget
from corestream.cpu.cpu_set import CPUSet, format_cpu_list
from corestream.cpu.machine import Topology
from corestream.cpu.placement import choose_cores
from corestream.cpu.pool import CPUPool
from corestream.cpu.topology import topology as read_topology
from corestream.errors import CoresTaken
from corestream.launch.claims import (
    ancestors,
    lock_folder,
    pid_namespace,
    read_claims,
    write_claim,
)
from corestream.launch.slots import pick_parts

FOLDER_VARIABLE = "CORESTREAM_LEDGER_DIR"
_POLL_S = 0.05


class Lease:
    """Cores that this process has to itself, among those who ask the ledger.

    Held until `release()`, the end of a `with` block or the end of the process, however it ends;
    dropping the object does not release it. A forked child does not hold its parent's lease, and
    ending the block there changes nothing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, claim_cores(1, folder=folder) as lease:
        ...     len(lease.core_ids), lease.is_held
        (1, True)

    Thread-safe; holds the GIL.
    """

    def __init__(self, core_ids: Iterable[int], *, descriptor: int, path: Path) -> None:
        self._core_ids = tuple(core_ids)
        self._descriptor: int | None = descriptor
        self._path = path
        self._pid = os.getpid()

    @property
    def core_ids(self) -> list[int]:
        """The logical CPU ids in order, as a new list each time."""
        return list(self._core_ids)

    @property
    def is_held(self) -> bool:
        """Whether this process still holds it."""
        return self._descriptor is not None and self._pid == os.getpid()

    def pool(self) -> CPUPool:
        """Return the cores as a pool, for `pin`, a `TaskExecutor` or a `MultiStreamModule`."""
        return CPUPool(self._core_ids)

    def keep_across_exec(self) -> None:
        """Have the program that this process turns into hold the lease."""
        if self._descriptor is not None:
            os.set_inheritable(self._descriptor, True)

    def release(self) -> None:
        """Give the cores back; a second time, or in a forked child, it does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if self._pid == os.getpid():
            # For every process that has the file open: a forked child keeps it so.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        state = "held" if self.is_held else "released"
        return f"<Lease of CPUs {format_cpu_list(self._core_ids)}, {state}>"


class Ledger:
    """The claims on CPUs, while no other process can change them; from `open_ledger`.

    Not thread-safe: for the block of `open_ledger`; holds the GIL.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def claimed(self) -> CPUSet:
        """Return the CPUs that others have claimed.

        What `corestream run` claimed for this process or one above it is not among them.
        """
        own, namespace = ancestors(), pid_namespace()
        taken = CPUSet()
        for claim in read_claims(self._folder):
            is_ours = claim.pid in own and claim.pid_namespace == namespace
            if not (claim.is_shared and is_ours):
                taken |= claim.cpus
        return taken

    def remaining(
        self, budget: CPUBudget, *, topology: Topology, efficient_cores: bool = False
    ) -> CPUBudget:
        """Return what of a budget is left: whole cores, and the rest of the quota.

        Args:
            budget: What this process might use if it were alone.
            topology: The machine, which says whose SMT siblings are taken as well.
            efficient_cores: Whether the efficient cores of a hybrid machine count.

        Raises:
            CoresTaken: Nothing is left.
        """
        claimed = self.claimed()
        blocked = CPUSet(
            sibling for cpu in claimed & topology.online for sibling in topology.smt_siblings(cpu)
        )
        allowed = budget.allowed - blocked - claimed
        if not efficient_cores and budget.allowed & topology.cpus_of_type("performance"):
            allowed -= topology.cpus_of_type("efficient")
        count = min(budget.count - len(claimed & budget.allowed), len(allowed))
        if count < 1:
            raise CoresTaken(
                f"a core must be free; got {claimed} claimed of the CPUs {budget.allowed} that "
                f"{budget.count} threads may use; end another program, or ask for fewer cores"
            )
        reasons = (*budget.reasons, f"claimed by others: {claimed or 'none'}, leaving {count}")
        return replace(budget, allowed=allowed, count=count, reasons=reasons)

    def claim(self, core_ids: Iterable[int], *, is_shared: bool = False) -> Lease:
        """Claim CPUs for this process.

        Args:
            core_ids: CPUs of the remaining budget.
            is_shared: Let this process and those below it claim parts of them.
        """
        ids = tuple(core_ids)
        descriptor, path = write_claim(self._folder, CPUSet(ids), is_shared=is_shared)
        return Lease(ids, descriptor=descriptor, path=path)


@contextmanager
def open_ledger(folder: str | os.PathLike[str] | None = None) -> Iterator[Ledger]:
    """Have the ledger to oneself for the length of a block, to look at it and to claim.

    Args:
        folder: Its folder; by default that of this user.

    Raises:
        OSError: The folder is not this user's, or cannot be made.
        TimeoutError: Another process stayed in such a block.
    """
    path = _make_folder(folder)
    with lock_folder(path):
        yield Ledger(path)


def claim_cores(
    n: int,
    *,
    budget: CPUBudget | None = None,
    topology: Topology | None = None,
    timeout_s: float = 0.0,
    folder: str | os.PathLike[str] | None = None,
) -> Lease:
    """Claim `n` cores that no other process has claimed, close to each other.

    For workers that start without knowing of each other: those of gunicorn or uvicorn, tests
    that run side by side. Nobody is kept from cores that others claimed without asking the ledger.

    Args:
        n: Number of physical cores, at least 1.
        budget: What may be used; by default this process's `cpu_budget()`.
        topology: The machine; by default this one.
        timeout_s: How long to wait for cores that are taken.
        folder: The ledger's folder; by default this user's.

    Returns:
        The lease: `core_ids` has one logical CPU of each core.

    Raises:
        ValueError: `n` is less than 1 or more than the cores that could ever be free.
        CoresTaken: Too many are taken, and stayed so.
        OSError: The folder is not this user's, or cannot be made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, claim_cores(1, folder=folder) as lease:
        ...     lease.pool() == CPUPool(lease.core_ids)
        True

    Thread-safe: each thread's claim is its own; holds the GIL, except while it waits.
    """
    budget = budget or cpu_budget()
    topology = topology or read_topology()
    most = len(choose_cores(budget.allowed, budget.count, topology=topology))
    if not 1 <= n <= most:
        raise ValueError(
            f"n must be from 1 to the {most} cores that this process may use; got {n!r}; "
            "see corestream.cpu.cpu_budget().reasons"
        )
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            with open_ledger(folder) as ledger:
                left = ledger.remaining(budget, topology=topology)
                return ledger.claim(_choose(left, n, topology=topology))
        except CoresTaken:
            if time.monotonic() >= deadline_s:
                raise
        time.sleep(_POLL_S)


def _choose(budget: CPUBudget, n: int, *, topology: Topology) -> list[int]:
    cores = choose_cores(budget.allowed, len(budget.allowed), topology=topology)
    if min(budget.count, len(cores)) < n:
        raise CoresTaken(
            f"{n} cores must be free; got {min(budget.count, len(cores))} ({budget.reasons[-1]}); "
            "end another program, or ask for fewer cores"
        )
    return list(pick_parts(cores, [n], topology=topology)[0])


def ledger_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder of this user's ledger; it need not exist yet.

    In memory, so that it is gone after a reboot as the claims are, and the same for every
    session of a user: XDG_RUNTIME_DIR, which not every session has, comes after /dev/shm.

    Args:
        environ: The environment variables; those of this process by default.

    Thread-safe; holds the GIL.
    """
    environ = os.environ if environ is None else environ
    if environ.get(FOLDER_VARIABLE):
        return Path(environ[FOLDER_VARIABLE])
    for base in ("/dev/shm", environ.get("XDG_RUNTIME_DIR", ""), "/tmp"):
        if base and os.access(base, os.W_OK | os.X_OK):
            return Path(base, f"corestream-{os.geteuid()}")
    raise FileNotFoundError(
        f"{FOLDER_VARIABLE} must name a folder; got none, and neither /dev/shm nor /tmp can be "
        "written"
    )


def _make_folder(folder: str | os.PathLike[str] | None) -> Path:
    if folder is not None or os.environ.get(FOLDER_VARIABLE):
        path = Path(folder) if folder is not None else ledger_folder()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"{FOLDER_VARIABLE} must be a folder that can be made; got {str(path)!r}; "
                f"{error.strerror}"
            ) from error
        return path
    path = ledger_folder()
    path.mkdir(mode=0o700, exist_ok=True)
    # Anyone may make folders there: one that another user made could be read and written by him.
    found = path.lstat()
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not is_own or found.st_mode & 0o022:
        raise PermissionError(
            f"{path} must be a folder that only this user can write; got mode "
            f"{stat.filemode(found.st_mode)} of user {found.st_uid}; remove it, or name another "
            f"in {FOLDER_VARIABLE}"
        )
    return path
