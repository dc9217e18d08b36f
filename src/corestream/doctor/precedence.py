"""Who set a number of threads: the API, a variable, or nobody.

torch takes, for operators, what `set_num_threads` was given, else MKL_NUM_THREADS, else
OMP_NUM_THREADS, else its default (the note "CPU threading and TorchScript inference" of torch's
documentation). With MKL in the wheel it is MKL that reads the variables (ParallelOpenMP.cpp calls
`mkl_get_max_threads`), and MKL never uses more threads than the mask has cores unless
MKL_DYNAMIC=false.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from corestream.doctor.variables import positive_integer

API = "the API (torch.set_num_threads)"
DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a number comes from, and the settings that lost against it."""

    source: str
    note: str = ""
    overruled: tuple[str, ...] = ()


def settings(environ: Mapping[str, str], *, has_mkl: bool) -> list[tuple[str, int]]:
    """Return the valid settings of the number of threads, the strongest first.

    Args:
        environ: The environment variables.
        has_mkl: torch's matrix products go to MKL. Without it, OMP_NUM_THREADS comes first.
    """
    names = ["MKL_NUM_THREADS", "OMP_NUM_THREADS"]
    if not has_mkl:
        names.reverse()
    values = [(name, positive_integer(environ.get(name))) for name in names]
    found = [(name, value) for name, value in values if value is not None]
    domain = environ.get("MKL_DOMAIN_NUM_THREADS", "")
    _, _, count = domain.partition("MKL_DOMAIN_ALL=")
    value = positive_integer(count.split(";")[0])
    if has_mkl and value is not None:
        found.insert(0, ("MKL_DOMAIN_NUM_THREADS", value))
    return found


def invalid_settings(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return `NAME=value` of thread counts that no runtime understands and all ignore.

    Args:
        environ: The environment variables.
    """
    names = ("MKL_NUM_THREADS", "OMP_NUM_THREADS")
    return tuple(
        f"{name}={environ[name]}"
        for name in names
        if environ.get(name) and positive_integer(environ[name]) is None
    )


def origin_of(
    actual: int, environ: Mapping[str, str], *, num_cores: int, num_cpus: int, has_mkl: bool
) -> Origin:
    """Return who set torch's number of threads for operators.

    Args:
        actual: What `torch.get_num_threads()` says.
        environ: The environment variables.
        num_cores: Cores of the mask.
        num_cpus: CPUs of the mask.
        has_mkl: torch's matrix products go to MKL.
    """
    found = settings(environ, has_mkl=has_mkl)
    if not found:
        # Which of the two is torch's default depends on the library: MKL counts cores.
        return Origin(source=DEFAULT if actual in (num_cores, num_cpus) else API)
    (name, wanted), *rest = found
    overruled = tuple(f"{other}={value}" for other, value in rest if value != wanted)
    if actual == wanted:
        return Origin(source=f"{name}={wanted}", overruled=overruled)
    caps = has_mkl and environ.get("MKL_DYNAMIC", "").lower() not in ("false", "0")
    if caps and actual == min(wanted, num_cores):
        note = f"MKL caps it at the {num_cores} cores of the mask (MKL_DYNAMIC)"
        return Origin(source=f"{name}={wanted}", note=note, overruled=overruled)
    return Origin(source=API, overruled=tuple(f"{other}={value}" for other, value in found))


def expected_intra_op(environ: Mapping[str, str], *, num_cores: int) -> int:
    """Return the threads that torch would take for operators, where it cannot be asked.

    Args:
        environ: The environment variables.
        num_cores: Cores of the mask.
    """
    found = settings(environ, has_mkl=True)
    if not found:
        return num_cores
    wanted = found[0][1]
    is_free = environ.get("MKL_DYNAMIC", "").lower() in ("false", "0")
    return wanted if is_free else min(wanted, num_cores)
