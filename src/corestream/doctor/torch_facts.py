"""What torch says of itself; called where torch is loaded already, or in a fresh process."""

from __future__ import annotations

import platform
from types import ModuleType
from typing import Any

from corestream.doctor.facts import TorchFacts


def describe_torch(torch: Any) -> dict[str, Any]:
    """Return the fields of `TorchFacts`, JSON-ready.

    Args:
        torch: The module.
    """
    capabilities: dict[str, Any] = torch.cpu.get_capabilities()
    return {
        "version": str(torch.__version__),
        "python": platform.python_version(),
        "parallel_info": torch.__config__.parallel_info(),
        "intra_op": torch.get_num_threads(),
        "inter_op": torch.get_num_interop_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "capabilities": {k: v for k, v in capabilities.items() if isinstance(v, bool)},
        "has_mkl": bool(torch.backends.mkl.is_available()),
        "has_onednn": bool(torch.backends.mkldnn.is_available()),
        "flushes_denormals": _flushes_denormals(torch),
        "built_against": _built_against(),
    }


def torch_facts(module: ModuleType) -> TorchFacts:
    """Return the facts of torch as it is loaded in this process.

    Args:
        module: torch.
    """
    return TorchFacts(**describe_torch(module))


def _flushes_denormals(torch: Any) -> bool:
    # Asked of the arithmetic, as there is no getter; one number starts no team.
    smallest = torch.full((1,), 1e-40)
    return bool((smallest * 1.0).item() == 0.0)


def _built_against() -> str | None:
    from corestream import _native

    try:
        return _native.built_torch_version()
    except ImportError:
        return None
