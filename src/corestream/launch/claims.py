"""The files of the ledger: one for each claim, whose lock its owner holds for as long as it lives.

The kernel drops the lock (flock) when the last process that has the file open ends, however it
ends. A process forked from the owner may have the file open for longer, so a claim also names its
owner by process id and start time; the start time tells a process id that is used again.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from corestream.cpu.cpu_set import CPUSet

_PREFIX = "claim-"
_POLL_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Claim:
    """CPUs that are taken, and by whom.

    `is_shared` says that the CPUs are meant for the owner and the processes below it, who may
    divide them among themselves.
    """

    cpus: CPUSet
    pid: int
    start_time: int | None
    pid_namespace: str | None
    is_shared: bool


@contextmanager
def lock_folder(folder: Path, *, timeout_s: float = 10.0) -> Iterator[None]:
    """Keep every other process from reading or making claims while the block runs.

    Args:
        folder: The ledger's.
        timeout_s: How long to wait for another that is inside.

    Raises:
        TimeoutError: Another stayed inside; it may have been stopped there.
    """
    path = folder / "lock"
    descriptor = _open_shared(path)
    try:
        deadline_s = time.monotonic() + timeout_s
        while not _try_lock(descriptor):
            if time.monotonic() > deadline_s:
                raise TimeoutError(
                    f"{path} must be free within {timeout_s:g} s; another process holds it, "
                    f"see fuser {path}"
                )
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def write_claim(folder: Path, cpus: CPUSet, *, is_shared: bool) -> tuple[int, Path]:
    """Claim CPUs for this process.

    Args:
        folder: The ledger's; locked by the caller.
        cpus: What to claim.
        is_shared: Whether processes below this one may divide them.

    Returns:
        The descriptor that holds the claim while it is open, and its file.
    """
    pid = os.getpid()
    path = folder / f"{_PREFIX}{pid}-{secrets.token_hex(6)}"
    record = {
        "cpus": str(cpus),
        "pid": pid,
        "start_time": start_time(pid),
        "pid_namespace": pid_namespace(),
        "is_shared": is_shared,
    }
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, json.dumps(record).encode())
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return descriptor, path


def read_claims(folder: Path) -> list[Claim]:
    """Return the claims of living owners, and remove the files of the others.

    Args:
        folder: The ledger's; locked by the caller.
    """
    claims = []
    for path in sorted(folder.glob(f"{_PREFIX}*")):
        claim = _read_claim(path)
        if claim is not None and _is_alive(claim):
            claims.append(claim)
        else:
            with suppress(OSError):  # another user's, in a folder with the sticky bit
                path.unlink(missing_ok=True)
    return claims


def ancestors() -> set[int]:
    """Return the process ids of this process, its parent, and so on."""
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        fields = _stat_fields(pid)
        pid = int(fields[1]) if fields else 0
    return found


def start_time(pid: int) -> int | None:
    """Return when a process started, in ticks since boot; None if it ended or is not shown.

    Args:
        pid: The process.
    """
    fields = _stat_fields(pid)
    return None if fields is None or fields[0] in ("Z", "X") else int(fields[19])


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third, the state, on (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field, the name, may hold spaces and parentheses.
    return text.rpartition(")")[2].split() or None


def pid_namespace() -> str | None:
    """Return which process ids those of this process are; None where the kernel hides it."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _read_claim(path: Path) -> Claim | None:
    """Return what is claimed, or None if nobody holds it or it is no claim."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(descriptor) as file:
        if _try_lock(descriptor):
            return None
        try:
            record = json.loads(file.read())
            return Claim(
                cpus=CPUSet.parse(record["cpus"]),
                pid=int(record["pid"]),
                start_time=record["start_time"],
                pid_namespace=record["pid_namespace"],
                is_shared=bool(record["is_shared"]),
            )
        except (ValueError, KeyError, TypeError):
            return None


def _is_alive(claim: Claim) -> bool:
    """Whether the owner lives; its lock is held, maybe by a process that was forked from it."""
    if claim.pid_namespace != pid_namespace() or claim.start_time is None:
        return True  # its process id says nothing here
    try:
        os.kill(claim.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's; its start time may be hidden
    return start_time(claim.pid) == claim.start_time


def _open_shared(path: Path) -> int:
    """Open a file that others may have made; O_CREAT on another user's is refused in /tmp."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    with suppress(FileNotFoundError):
        return os.open(path, flags)
    return os.open(path, flags | os.O_CREAT, 0o644)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
