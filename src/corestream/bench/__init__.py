"""Measures a model as stock torch runs it and as corestream does: throughput, latency, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corestream.bench.plan import Options
    from corestream.bench.report import Report
    from corestream.bench.run import bench_model

__all__ = ["Options", "Report", "bench_model"]

_HOMES = {"Options": "plan", "Report": "report", "bench_model": "run"}


def __getattr__(name: str) -> Any:
    # Importing the package must not load torch: a process that is measured pins itself before.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"corestream.bench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
