"""Surroundings that make pinning fail without a word, and the warning that names them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from corestream import _native
from corestream.cpu.allowed import allowed_cpus, startup_affinity
from corestream.cpu.openmp import AFFINITY_VARIABLES, affinity_settings
from corestream.cpu.topology import topology
from corestream.errors import CorestreamWarning
from corestream.runtime.threads import mapped_openmp_runtimes

# What decides how threads behave, for reports.
RELEVANT_VARIABLES = (
    *AFFINITY_VARIABLES,
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "OMP_DYNAMIC",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
    "MKL_NUM_THREADS",
    "LD_PRELOAD",
    "MALLOC_CONF",
    "ONEDNN_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "TORCHINDUCTOR_CPP_DYNAMIC_THREADS",
)

_warned: set[str] = set()


def find_problems(
    *,
    environ: Mapping[str, str],
    kind: str,
    startup: Sequence[int],
    online: int,
    runtimes: Sequence[str],
) -> list[str]:
    """What is wrong, in words; a pure function of what was found.

    Args:
        environ: The environment variables.
        kind: The OpenMP runtime that torch's calls reach.
        startup: The main thread's CPUs when corestream was loaded.
        online: How many CPUs the cpuset and the kernel would allow.
        runtimes: Paths of all OpenMP runtimes in the process.
    """
    problems = []
    settings = affinity_settings(environ, kind)
    if settings and len(startup) < online:
        problems.append(
            f"the environment must let threads run on all {online} allowed CPUs; got "
            f"{' '.join(settings)}, with which {kind} narrowed the main thread, and every thread "
            f"made after it, to {len(startup)}; unset it: corestream pins its own threads"
        )
    preloaded = any(Path(path).name in environ.get("LD_PRELOAD", "") for path in runtimes)
    if len(runtimes) > 1 and not preloaded:
        problems.append(
            f"the process must have one OpenMP runtime; got {', '.join(runtimes)}, each with "
            f"threads of its own on the same cores; import torch first, or unload the other "
            f"(docs/openmp.md)"
        )
    return problems


def current_problems() -> list[str]:
    """What is wrong with this process's surroundings, in words."""
    kind, _ = _native.core.openmp_runtime()
    return find_problems(
        environ=os.environ,
        kind=kind,
        # Two moments: corestream.cpu may be imported before torch, whose OpenMP runtime narrows
        # the main thread as it loads; the native part is loaded after it.
        startup=[cpu for cpu in _native.core.startup_affinity() if cpu in startup_affinity()],
        online=len(topology().online) or len(allowed_cpus()),
        runtimes=mapped_openmp_runtimes(),
    )


def warn_of_problems() -> None:
    """Warns of each problem once; called where threads are about to be pinned."""
    for problem in current_problems():
        if problem not in _warned:
            _warned.add(problem)
            warnings.warn(problem, CorestreamWarning, stacklevel=3)
