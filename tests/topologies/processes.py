"""Writes the procfs text of a process: threads, masks, mapped libraries, relatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LIBGOMP = "/venv/torch/lib/libgomp.so.1"

_FIRST_ADDRESS = 0x7F00_0000_0000
_LIBRARY_BYTES = 0x4_0000


@dataclass(frozen=True, kw_only=True)
class Thread:
    """One thread; the first of a process is its main thread."""

    name: str = "python"
    cpus: str = "0"
    is_idle_worker: bool = False
    """Asleep inside the first mapped library, as libgomp's idle workers are."""
    started_ticks: int = 1000
    cpu_ns: int = 0


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of a synthetic machine; thread ids count up from its own id."""

    process_id: int
    parent: int = 1
    command: tuple[str, ...] = ("python", "serve.py")
    environ: Mapping[str, str] = field(default_factory=dict)
    threads: tuple[Thread, ...] = (Thread(),)
    libraries: tuple[str, ...] = (LIBGOMP,)
    is_readable: bool = True
    """Whether we may look into it: another user's maps, environ and syscalls are hidden."""


def process_texts(process: Process) -> dict[str, str]:
    """Return the files of `/proc/<id>`."""
    folder = f"proc/{process.process_id}"
    main = process.threads[0]
    texts = {
        f"{folder}/cmdline": "\0".join(process.command) + "\0",
        f"{folder}/status": _status(process, main),
        f"{folder}/stat": _stat(process, main),
        f"{folder}/cgroup": "0::/\n",
    }
    if process.is_readable:
        variables = "".join(f"{name}={value}\0" for name, value in process.environ.items())
        texts |= {f"{folder}/maps": _maps(process.libraries), f"{folder}/environ": variables}
    for index, thread in enumerate(process.threads):
        task = f"{folder}/task/{process.process_id + index}"
        texts |= {
            f"{task}/status": _status(process, thread),
            f"{task}/stat": _stat(process, thread),
            f"{task}/schedstat": f"{thread.cpu_ns} 0 1\n",
        }
        if process.is_readable:
            address = _FIRST_ADDRESS + 0x1000 if thread.is_idle_worker else 0x5000
            texts[f"{task}/syscall"] = f"202 0x1 0x80 0x0 0x0 0x0 0x0 0x7ffd0000 {address:#x}\n"
    return texts


def _status(process: Process, thread: Thread) -> str:
    return (
        f"Name:\t{thread.name}\nPid:\t{process.process_id}\nPPid:\t{process.parent}\n"
        f"Cpus_allowed_list:\t{thread.cpus}\n"
    )


def _stat(process: Process, thread: Thread) -> str:
    middle = " ".join(["0"] * 9)  # process group to page faults (proc(5))
    return (
        f"{process.process_id} ({thread.name}) S {process.parent} {middle} "
        f"{thread.cpu_ns // 10_000_000} 0 0 0 20 0 1 0 {thread.started_ticks} 0 0\n"
    )


def _maps(libraries: tuple[str, ...]) -> str:
    lines = ["55a000000000-55a000001000 r-xp 00000000 08:01 7 /usr/bin/python3\n"]
    for index, path in enumerate(libraries):
        first = _FIRST_ADDRESS + index * 2 * _LIBRARY_BYTES
        last = first + _LIBRARY_BYTES
        lines += [
            f"{first:x}-{last:x} r-xp 00000000 08:01 {index + 8} {path}\n",
            f"{last:x}-{last + 0x1000:x} rw-p 00040000 08:01 {index + 8} {path}\n",
        ]
    return "".join(lines)
