"""Turns a module into something that streams run without the GIL, by the way that measures best."""

from __future__ import annotations

from corestream.lowering.api import lower
from corestream.lowering.model import LoweredModule
from corestream.lowering.report import CandidateReport, LoweringReport
from corestream.lowering.saved import load, save

__all__ = ["CandidateReport", "LoweredModule", "LoweringReport", "load", "lower", "save"]
