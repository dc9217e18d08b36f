from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


def _from_install(relative_path: str) -> Path:
    path = Path(sys.prefix, relative_path)
    if path.exists():
        return path
    reason = f"{path} is missing; run: make install"
    if "CI" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def libiomp5() -> Path:
    """Intel's OpenMP runtime, to preload in a subprocess (PyPI's intel-openmp, x86-64 only)."""
    return _from_install("lib/libiomp5.so")


@pytest.fixture(scope="session")
def libomp() -> Path:
    """The distribution's LLVM OpenMP runtime, to preload in a subprocess (scripts/fetch-libomp)."""
    return _from_install("share/libomp/libomp.so.5")
