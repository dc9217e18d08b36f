"""Makes models faster for inference without changing what they are: one verb, one file a pass."""

from __future__ import annotations

from corestream.optimization.api import optimize
from corestream.optimization.passes import table
from corestream.optimization.report import OptimizeReport, PassReport

__all__ = ["OptimizeReport", "PassReport", "optimize", "table"]
