"""The environment variables that decide how threads, kernels and memory behave."""

from __future__ import annotations

from collections.abc import Mapping

from corestream.cpu.openmp import AFFINITY_VARIABLES

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


def positive_integer(text: str | None) -> int | None:
    """Return the first number of a thread count such as `8` or `8,2`; None if it is none.

    Args:
        text: The value of a variable.
    """
    first = (text or "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None
