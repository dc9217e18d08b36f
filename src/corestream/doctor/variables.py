"""The environment variables that decide how threads, kernels and memory behave."""

from __future__ import annotations

from collections.abc import Mapping

# Variables with which an OpenMP runtime moves threads by itself, by the runtimes that read them.
# The same table as corestream.runtime.environment has; that module loads torch, this one must not.
AFFINITY_VARIABLES = {
    "OMP_PROC_BIND": ("libgomp", "libiomp5", "libomp"),
    "OMP_PLACES": ("libgomp", "libiomp5", "libomp"),
    "GOMP_CPU_AFFINITY": ("libgomp", "libiomp5", "libomp"),
    "KMP_AFFINITY": ("libiomp5", "libomp"),
}

# With these the runtimes leave threads alone; to the other variables "0" is a CPU.
_OFF = {
    "OMP_PROC_BIND": ("false", "0"),
    "KMP_AFFINITY": ("none", "disabled"),
}

THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "MKL_DOMAIN_NUM_THREADS",
    "MKL_DYNAMIC",
    "OMP_THREAD_LIMIT",
    "OMP_DYNAMIC",
)

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

INSTRUCTION_SETS = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
)

MEMORY = ("LD_PRELOAD", "MALLOC_CONF", "GLIBC_TUNABLES", "THP_MEM_ALLOC_ENABLE")

SERVERS = (
    "WEB_CONCURRENCY",
    "GUNICORN_CMD_ARGS",
    "UVICORN_WORKERS",
    "SERVER_SOFTWARE",
    "LOCAL_WORLD_SIZE",
)

_OTHERS = ("KMP_DUPLICATE_LIB_OK", "TORCHINDUCTOR_CPP_DYNAMIC_THREADS")

KNOWN = frozenset(
    (
        *AFFINITY_VARIABLES,
        *THREAD_COUNTS,
        *WAITING,
        *INSTRUCTION_SETS,
        *MEMORY,
        *SERVERS,
        *_OTHERS,
    )
)


def relevant(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the checks know; the others may be secrets.

    Args:
        environ: Every variable. Of Ray's own only the names are kept.
    """
    kept = {name: value for name, value in environ.items() if name in KNOWN}
    return kept | dict.fromkeys((name for name in environ if name.startswith("RAY_")), "")


def affinity_settings(environ: Mapping[str, str], runtime: str | None) -> tuple[str, ...]:
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


def positive_integer(text: str | None) -> int | None:
    """Return the first number of a thread count such as `8` or `8,2`; None if it is none.

    Args:
        text: The value of a variable.
    """
    first = (text or "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None
