"""What slows models down on this machine, each line with its fix. Never loads torch at import.

`diagnose()` collects facts (`facts.py` lists them) and lets the table of checks judge them. A
check is a pure function, so any environment can be written down as a test.
"""

from __future__ import annotations

from corestream.doctor.api import diagnose
from corestream.doctor.diagnosis import Diagnosis
from corestream.doctor.finding import Finding, Level

__all__ = ["Diagnosis", "Finding", "Level", "diagnose"]
