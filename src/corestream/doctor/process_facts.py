"""A process's facts, from `/proc/<id>` under a root; nothing in the process is touched."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.openmp import OPENMP_NAMES, mapped_code
from corestream.cpu.system_files import SystemFiles
from corestream.cpu.topology import is_live
from corestream.doctor.facts import ProcessFacts, Relative, ThreadFacts
from corestream.doctor.variables import relevant

ALLOCATOR_NAMES = ("libjemalloc", "libtcmalloc", "libmimalloc")

Ranges = Sequence[range]


def read_process(root: str | os.PathLike[str], process_id: int | str) -> ProcessFacts | None:
    """Return the facts of a live process; None if there is no such process.

    Args:
        root: The folder that stands for `/`.
        process_id: Its id, or `self`.
    """
    files = SystemFiles(root)
    folder = f"proc/{process_id}"
    status = _fields(files.read(f"{folder}/status") or "")
    stat = _stat(files.read(f"{folder}/stat") or "")
    if not status and not stat:
        return None
    maps = files.read(f"{folder}/maps") or None
    command = _words(files.read(f"{folder}/cmdline"))
    environ = _environ(files.read(f"{folder}/environ"))
    parent = int(status.get("PPid", "0"))
    number = int(status.get("Pid", "0")) or (process_id if isinstance(process_id, int) else 0)
    others = _read_relatives(files, command=command) if command else []
    return ProcessFacts(
        kind="live",
        process_id=number,
        command=command,
        environ=environ,
        mask=_cpus(status),
        mask_before=_cpus(_fields(files.read(f"proc/{parent}/status") or "")) if parent else None,
        threads=_read_threads(files, folder, [code for code, _ in mapped_code(maps or "")]),
        openmp_runtimes=None if maps is None else mapped_libraries(maps, OPENMP_NAMES),
        allocators=None if maps is None else mapped_libraries(maps, ALLOCATOR_NAMES),
        missing_preloads=missing_preloads(environ or {}) if is_live(root) else (),
        # The init process adopts whatever lost its parent: its children are not one server's.
        siblings=tuple(
            o for p, o in others if p == parent and parent > 1 and o.process_id != number
        ),
        children=tuple(o for p, o in others if p == number),
        notes=files.notes,
    )


def watch(
    root: str | os.PathLike[str], process: ProcessFacts, *, window_s: float
) -> tuple[ThreadFacts, ...]:
    """Return the threads of a process with the share of a CPU that each used over a window.

    Args:
        root: The folder that stands for `/`.
        process: As just read.
        window_s: How long to watch, in seconds.
    """
    start = time.perf_counter()
    time.sleep(window_s)
    files = SystemFiles(root)
    folder = f"proc/{process.process_id}"
    after = {thread.thread_id: thread for thread in _read_threads(files, folder, [])}
    return shares(process.threads, after, seconds=time.perf_counter() - start)


def shares(
    before: Iterable[ThreadFacts], after: Mapping[int, ThreadFacts], *, seconds: float
) -> tuple[ThreadFacts, ...]:
    """Return `before` with the share of a CPU that each thread used until `after`.

    Args:
        before: The threads at the start of the window.
        after: The threads at its end, by id.
        seconds: How long it was.
    """
    found = []
    for thread in before:
        later = after.get(thread.thread_id)
        if later is not None and None not in (thread.cpu_time_s, later.cpu_time_s):
            used = (later.cpu_time_s or 0.0) - (thread.cpu_time_s or 0.0)
            thread = replace(thread, cpu_share=used / max(seconds, 1e-6))
        found.append(thread)
    return tuple(found)


def missing_preloads(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files of LD_PRELOAD that do not exist; the loader only grumbles about them.

    Args:
        environ: The environment variables.
    """
    paths = re.split(r"[ :]+", environ.get("LD_PRELOAD", ""))
    # A name without a slash is searched for by the loader, an $ORIGIN is expanded by it.
    return tuple(p for p in paths if "/" in p and "$" not in p and not Path(p).exists())


def mapped_libraries(maps: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths of mapped libraries whose file names start with one of `names`.

    Args:
        maps: The text of `/proc/<id>/maps`.
        names: Such as `libgomp`.
    """
    return tuple(dict.fromkeys(path for _, path in mapped_code(maps, names=names)))


def _read_threads(files: SystemFiles, folder: str, openmp: Ranges) -> tuple[ThreadFacts, ...]:
    names = files.names(f"{folder}/task")
    ids = sorted(int(name) for name in names if name.isdecimal())
    threads = (_read_thread(files, f"{folder}/task/{i}", thread_id=i, openmp=openmp) for i in ids)
    return tuple(thread for thread in threads if thread is not None)


def _read_thread(
    files: SystemFiles, folder: str, *, thread_id: int, openmp: Ranges
) -> ThreadFacts | None:
    status = _fields(files.read(f"{folder}/status") or "")
    if not status:
        return None  # ended meanwhile
    stat = _stat(files.read(f"{folder}/stat") or "")
    return ThreadFacts(
        thread_id=thread_id,
        name=status.get("Name", ""),
        cpus=_cpus(status),
        in_openmp=_is_in(openmp, files.read(f"{folder}/syscall")),
        started_ticks=stat.get("started_ticks"),
        cpu_time_s=_cpu_time(files.read(f"{folder}/schedstat"), stat),
    )


def _is_in(openmp: Ranges, syscall: str | None) -> bool | None:
    """Whether a blocked thread stands inside an OpenMP runtime; its last field is its address.

    libgomp makes its futex calls itself; Intel's and LLVM's runtimes sleep inside libc.
    """
    if syscall is None:
        return None
    fields = syscall.split()
    if len(fields) < 3:
        return False
    return any(int(fields[-1], 16) in addresses for addresses in openmp)


def _cpu_time(schedstat: str | None, stat: Mapping[str, int]) -> float | None:
    fields = (schedstat or "").split()
    if len(fields) == 3 and fields[0].isdecimal():
        return int(fields[0]) / 1e9
    ticks = stat.get("cpu_ticks")
    return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")


def _read_relatives(files: SystemFiles, *, command: tuple[str, ...]) -> list[tuple[int, Relative]]:
    """Return (parent, process) for every process of that command that we may see."""
    found = []
    for name in files.names("proc"):
        if not name.isdecimal() or _words(files.read(f"proc/{name}/cmdline")) != command:
            continue
        stat = _stat(files.read(f"proc/{name}/stat") or "")
        if "parent" in stat:
            relative = Relative(
                process_id=int(name), command=command, started_ticks=stat["started_ticks"]
            )
            found.append((stat["parent"], relative))
    return found


def _stat(text: str) -> dict[str, int]:
    # The name in parentheses may hold spaces and parentheses itself (proc(5)).
    fields = text.rpartition(")")[2].split()
    if len(fields) < 20:
        return {}
    return {
        "parent": int(fields[1]),
        "cpu_ticks": int(fields[11]) + int(fields[12]),
        "started_ticks": int(fields[19]),
    }


def _fields(status: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in status.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _cpus(status: Mapping[str, str]) -> CPUSet | None:
    try:
        return CPUSet.parse(status["Cpus_allowed_list"]) if "Cpus_allowed_list" in status else None
    except ValueError:
        return None


def _words(text: str | None) -> tuple[str, ...]:
    return tuple((text or "").rstrip("\0").split("\0")) if text else ()


def _environ(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = (entry.partition("=") for entry in text.split("\0"))
    return relevant({name: value for name, _, value in pairs if name})
