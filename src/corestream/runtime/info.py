"""What this process runs on and with: for bug reports, logs and `python -m corestream`."""

from __future__ import annotations

import os
import platform
import threading
from typing import Any

from corestream import _native
from corestream.cpu.allowed import startup_affinity
from corestream.cpu.budget import cpu_budget
from corestream.runtime.audit import count_openmp_threads
from corestream.runtime.environment import RELEVANT_VARIABLES, current_problems
from corestream.runtime.interop import interop_pool
from corestream.runtime.threads import mapped_openmp_runtimes, read_thread, thread_ids


def is_runtime_ext_enabled() -> bool:
    """Whether pools can be pinned here: the native part loads and an OpenMP runtime is there.

    Returns:
        True on the stock torch wheel; nothing has to be preloaded.

    Example:
        >>> import corestream
        >>> corestream.is_runtime_ext_enabled()
        True

    Source: ``ipex.cpu.runtime.is_runtime_ext_enabled``, which was False without libiomp5.

    Thread-safe; holds the GIL.
    """
    try:
        _native.torch_ext  # noqa: B018 (loading it is the question)
    except ImportError:
        return False
    kind, _ = _native.core.openmp_runtime()
    return bool(kind != "none")


def runtime_info() -> dict[str, Any]:
    """What this process runs on and with.

    Returns:
        A dict that ``json.dumps`` takes: versions, the CPU budget with its reasons, OpenMP
        runtimes with their paths, thread counts, torch's inter-op pool, masks, the
        environment variables that matter, and problems in words.

    Raises:
        ImportError: The native part does not load.

    Example:
        >>> import corestream
        >>> corestream.runtime_info()["openmp"]["kind"]
        'libgomp'

    Thread-safe; reads /proc with the GIL held.
    """
    return {
        "versions": _versions(),
        "cpus": _cpus(),
        "openmp": _openmp(),
        "threads": _threads(),
        "interop_pool": _interop_pool(),
        "masks": _masks(),
        "environment": {
            name: os.environ[name] for name in RELEVANT_VARIABLES if name in os.environ
        },
        "problems": current_problems(),
    }


def _versions() -> dict[str, str]:
    import torch

    return {
        "corestream": _native.torch_ext.version,
        "torch": torch.__version__,
        "built_against_torch": _native.built_torch_version(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def _cpus() -> dict[str, Any]:
    budget = cpu_budget()
    return {
        "allowed": str(budget.allowed),
        "budget": budget.count,
        "quota": budget.quota,
        "reasons": list(budget.reasons),
    }


def _openmp() -> dict[str, Any]:
    from corestream.runtime.executor import live_streams

    kind, path = _native.core.openmp_runtime()
    counted = count_openmp_threads(live_streams())
    return {
        "kind": kind,
        "path": path,
        "mapped": mapped_openmp_runtimes(),
        "stream_workers": counted.streams,
        "other_idle_workers": counted.others,
        "cpus": counted.cpus,
        "is_throttled": counted.is_throttled,
    }


def _threads() -> dict[str, Any]:
    import torch

    return {
        "torch_num_threads": torch.get_num_threads(),
        "torch_num_interop_threads": torch.get_num_interop_threads(),
        "os_threads": len(thread_ids()),
        "python_threads": threading.active_count(),
    }


def _interop_pool() -> dict[str, Any]:
    pool = interop_pool()
    return {
        "num_threads": pool.num_threads,
        "is_started": pool.is_started,
        "thread_ids": list(pool.thread_ids),
        "cpus": list(pool.cpus),
    }


def _masks() -> dict[str, str | None]:
    main, calling = read_thread(os.getpid()), read_thread(threading.get_native_id())
    return {
        "startup": str(startup_affinity()),
        "main_thread": main.cpus if main else None,
        "calling_thread": calling.cpus if calling else None,
    }
