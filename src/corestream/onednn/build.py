"""Which oneDNN torch holds, and for which instructions it compiles its kernels."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

# oneDNN names its ISA in the log's head, which a process prints once at most.
_PROGRAM = """
import torch
with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
    torch.ones(1).to_mkldnn()
    torch.nn.functional.conv2d(torch.ones(16, 16, 8, 8), torch.ones(16, 16, 3, 3))
"""


def version() -> str:
    """The version of the oneDNN inside torch.

    Returns:
        A text such as "3.12.0".

    Raises:
        RuntimeError: torch was built without oneDNN.

    Example:
        >>> from corestream.onednn import version
        >>> int(version().split(".")[0]) >= 3
        True

    Thread-safe; holds the GIL.
    """
    import torch

    found = re.search(r"MKL-DNN v([\w.-]+)", torch.__config__.show())
    if found is None:
        raise RuntimeError(
            f"torch must be built with oneDNN; got {torch.__version__} without it; "
            f"install another build"
        )
    return found[1]


@cache
def cpu_isa() -> str:
    """The instruction set that oneDNN compiles its kernels for, on this machine.

    It is the largest that the CPU and ``ONEDNN_MAX_CPU_ISA`` allow; a single kernel may use
    less. oneDNN's functions for it are hidden inside torch's library, so a short-lived Python
    process with the same environment is asked; the answer is kept.

    Returns:
        oneDNN's own words, such as "Intel AVX2", on CPUs of any maker.

    Raises:
        RuntimeError: The process told nothing, as where torch was built without oneDNN.

    Example:
        >>> from corestream.onednn import cpu_isa
        >>> cpu_isa() != ""
        True

    Thread-safe; waits for the process (seconds, the first time) without the GIL.
    """
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    found = re.search(r"^onednn_verbose,.*,cpu,isa:(.*)$", done.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(
            f"oneDNN must tell its ISA in the head of its log; got exit status "
            f"{done.returncode} and {done.stderr[-300:]!r} from {sys.executable!r}; "
            f"see torch.backends.mkldnn.is_available()"
        )
    return found[1].strip()
