"""`gather(directory)`: copy the text that describes a machine, to study it elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from corestream.cpu.allowed import startup_affinity
from corestream.cpu.budget import read_budget
from corestream.cpu.cgroup import MOUNTS
from corestream.cpu.procfs import CPUINFO, STATUS
from corestream.cpu.sysfs import read_topology
from corestream.cpu.system_files import SystemFiles
from corestream.cpu.topology import is_live

_KEPT_LINES = {
    MOUNTS: (" - cgroup ", " - cgroup2 "),
    STATUS: ("Cpus_allowed_list:",),
    CPUINFO: ("processor", "physical id", "core id"),
}
"""Files of which only some lines tell about CPUs; the others are nobody's business."""


def gather(directory: str | os.PathLike[str], root: str | os.PathLike[str] = "/") -> list[str]:
    """Copy the sysfs, procfs and cgroup text that corestream reads on this machine.

    `topology(directory)`, `allowed_cpus(directory)` and `cpu_budget(directory)` then answer as
    they do here. The copy names the process's cgroup and nothing else of the system.

    Args:
        directory: A new or empty folder.
        root: The folder that stands for `/`.

    Returns:
        The paths written, relative to `directory`, sorted.

    Raises:
        ValueError: `directory` holds files already.
        OSError: `directory` cannot be written.

    Example:
        >>> import tempfile
        >>> from corestream.cpu import topology
        >>> with tempfile.TemporaryDirectory() as copy:
        ...     _ = gather(copy)
        ...     topology(copy) == topology()
        True

    Thread-safe for one directory each; holds the GIL, except inside reads and writes.
    """
    target = Path(directory)
    if target.exists() and any(target.iterdir()):
        raise ValueError(
            f"directory must be new or empty; got {os.fspath(directory)!r}; "
            "name another, so that two machines do not mix"
        )
    files = SystemFiles(root)
    # What was read is what decides, so the copy gives the same answers.
    read_topology(files)
    read_budget(files)
    texts = {path: _keep_lines(path, text) for path, text in files.texts.items()}
    if is_live(root):
        texts[STATUS] = f"Cpus_allowed_list:\t{startup_affinity()}\n"
    for folder in sorted(files.folders):
        (target / folder).mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text, encoding="utf-8")
    return sorted(texts)


def _keep_lines(path: str, text: str) -> str:
    marks = _KEPT_LINES.get(path)
    if marks is None:
        return text
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if any(mark in line for mark in marks))
