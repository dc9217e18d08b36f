"""What is known of OpenMP runtimes from outside: the variables they read, and where their code is.

Here, below everything that asks, so that the launcher and the doctor need not load torch for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

OPENMP_NAMES = ("libgomp", "libiomp5", "libomp")
"""How the file names of the runtimes begin: GNU's, Intel's, LLVM's."""

AFFINITY_VARIABLES = {
    "OMP_PROC_BIND": ("libgomp", "libiomp5", "libomp"),
    "OMP_PLACES": ("libgomp", "libiomp5", "libomp"),
    "GOMP_CPU_AFFINITY": ("libgomp", "libiomp5", "libomp"),
    "KMP_AFFINITY": ("libiomp5", "libomp"),
}
"""Variables with which a runtime moves threads by itself, by the runtimes that read them."""

# With these the runtimes leave threads alone; to the other variables "0" is a CPU.
_OFF = {
    "OMP_PROC_BIND": ("false", "0"),
    "KMP_AFFINITY": ("none", "disabled"),
}


def affinity_settings(environ: Mapping[str, str], runtime: str | None = None) -> tuple[str, ...]:
    """Return `NAME=value` of the set variables with which a runtime moves threads.

    Args:
        environ: The environment variables.
        runtime: The kind of OpenMP runtime; None counts every variable.
    """
    return tuple(
        f"{name}={environ[name]}"
        for name, readers in AFFINITY_VARIABLES.items()
        if (runtime is None or runtime in readers)
        and environ.get(name, "").lower() not in ("", *_OFF.get(name, ()))
    )


def mapped_code(maps: str, *, names: tuple[str, ...] = OPENMP_NAMES) -> list[tuple[range, str]]:
    """Return the addresses and the paths of mapped libraries whose file names start like that.

    Args:
        maps: The text of `/proc/<id>/maps`.
        names: Such as `libgomp`.
    """
    found = []
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or "x" not in fields[1]:
            continue
        if Path(fields[5]).name.startswith(names):
            first, last = (int(bound, 16) for bound in fields[0].split("-"))
            found.append((range(first, last), fields[5]))
    return found
