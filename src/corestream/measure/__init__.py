"""Whether a model still says the same, and whether it says it sooner.

One answer to each question for all of corestream: what optimizes or lowers models keeps a change
only if `compare` finds the outputs within the tolerance and `is_faster` finds a gain.
"""

from __future__ import annotations

from corestream.measure.inputs import ModelInputs
from corestream.measure.numerics import Difference, compare, default_tolerance
from corestream.measure.precision import tolerance_in
from corestream.measure.timing import Timing, compare_times, is_faster, speedup

__all__ = [
    "Difference",
    "ModelInputs",
    "Timing",
    "compare",
    "compare_times",
    "default_tolerance",
    "is_faster",
    "speedup",
    "tolerance_in",
]
