"""Reading sysfs, procfs and cgroup text under a root folder, without ever raising."""

from __future__ import annotations

import os
import re
from pathlib import Path

from corestream.cpu.cpu_set import CPUSet

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_CPU_FOLDER = re.compile(r"/cpu([0-9]+)/")


class SystemFiles:
    """The kernel's text files under one root; what could not be read becomes a note.

    Everything that corestream knows about a machine comes through here, so that a folder of
    text can stand for any machine, and so that `gather` can copy exactly what was read.

    Args:
        root: The folder that stands for `/`.

    Example:
        >>> files = SystemFiles("/nonexistent")
        >>> files.read("proc/self/status", expected=True) is None
        True
        >>> files.notes
        ('proc/self/status: missing',)

    Not thread-safe: one reader each; holds the GIL, except inside the reads.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self.root = Path(root)
        self.texts: dict[str, str] = {}
        """Text of each file read, by path relative to the root."""
        self.folders: set[str] = set()
        """Folders that were listed or found to exist, relative to the root."""
        self._problems: dict[tuple[str, str], None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not understood; the same problem of several CPUs makes one note."""
        groups: dict[tuple[str, str], list[int]] = {}
        for path, reason in self._problems:
            match = _CPU_FOLDER.search(path)
            key = (_CPU_FOLDER.sub("/cpu*/", path, count=1), reason)
            groups.setdefault(key, []).extend([int(match[1])] if match else [])
        return tuple(
            f"{path}: {reason}" + (f" (CPUs {CPUSet(cpus)})" if cpus else "")
            for (path, reason), cpus in groups.items()
        )

    def note(self, path: str, reason: str) -> None:
        """Record that `path`, or a subject in words, could not be used, and why."""
        self._problems[path, reason] = None

    def read(self, path: str, *, expected: bool = False) -> str | None:
        """Return the stripped text of a file, or None; note a failure that says something.

        Args:
            path: Relative to the root.
            expected: Note the absence too.
        """
        if path in self.texts:
            return self.texts[path].strip()
        try:
            text = (self.root / path).read_text(encoding="utf-8")
        except FileNotFoundError:
            if expected:
                self.note(path, "missing")
            return None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            self.note(path, f"unreadable: {reason}")
            return None
        self.texts[path] = text
        return text.strip()

    def read_int(self, path: str, *, expected: bool = False) -> int | None:
        """Return the decimal integer in a file, or None.

        Args:
            path: Relative to the root.
            expected: Note the absence too.
        """
        text = self.read(path, expected=expected)
        if text is None:
            return None
        if not _INTEGER.fullmatch(text):
            self.note(path, f"not an integer: {text[:40]!r}")
            return None
        return int(text)

    def read_cpus(self, path: str, *, expected: bool = False) -> CPUSet | None:
        """Return the CPU list in a file (a blank file is the empty set), or None.

        Args:
            path: Relative to the root.
            expected: Note the absence too.
        """
        text = self.read(path, expected=expected)
        if text is None:
            return None
        if not text:
            return CPUSet()
        try:
            return CPUSet.parse(text)
        except ValueError:
            self.note(path, f"not a CPU list: {text[:40]!r}")
            return None

    def numbered(self, folder: str, *, prefix: str) -> list[int]:
        """Return the ascending numbers of the folders `<prefix><number>` in a folder.

        Args:
            folder: Relative to the root; absent counts as empty.
            prefix: Such as `cpu`, `node` or `index`.
        """
        pattern = re.compile(re.escape(prefix) + r"(0|[1-9][0-9]{0,8})")
        matches = (pattern.fullmatch(name) for name in self.names(folder))
        numbers = sorted(int(match[1]) for match in matches if match)
        self.folders.update(f"{folder}/{prefix}{number}" for number in numbers)
        return numbers

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder; none if it cannot be listed."""
        try:
            names = [entry.name for entry in (self.root / folder).iterdir()]
        except OSError:
            return []
        self.folders.add(folder)
        return sorted(names)

    def is_folder(self, path: str) -> bool:
        """Return whether `path` is a folder under the root."""
        try:
            found = (self.root / path).is_dir()
        except OSError:  # not permitted, or a name that no file system takes
            found = False
        if found:
            self.folders.add(path)
        return found
