"""What oneDNN does inside torch: its version and ISA, its caches, its log, its arithmetic.

Everything here is a question, a scope, or off until called; importing it changes nothing.
"""

from __future__ import annotations

from corestream.onednn.allocator import Allocator, allocator
from corestream.onednn.build import cpu_isa, version
from corestream.onednn.cache import CacheCounts, cache_counts, primitive_cache_capacity
from corestream.onednn.log import VERBOSE_OFF, VERBOSE_ON, VERBOSE_ON_CREATION, verbose
from corestream.onednn.math_mode import FP32MathMode, fp32_math_mode, get_fp32_math_mode
from corestream.onednn.tensor_memory import (
    TensorMemory,
    keep_tensor_memory,
    release_tensor_memory,
    tensor_memory,
)

__all__ = [  # noqa: RUF022 (plain order, which the lint of exports wants)
    "Allocator",
    "CacheCounts",
    "FP32MathMode",
    "TensorMemory",
    "VERBOSE_OFF",
    "VERBOSE_ON",
    "VERBOSE_ON_CREATION",
    "allocator",
    "cache_counts",
    "cpu_isa",
    "fp32_math_mode",
    "get_fp32_math_mode",
    "keep_tensor_memory",
    "primitive_cache_capacity",
    "release_tensor_memory",
    "tensor_memory",
    "verbose",
    "version",
]
