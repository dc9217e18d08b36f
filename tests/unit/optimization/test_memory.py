"""Layers are replaced one at a time: a second copy of a layer, never of the model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("memory_program.py")
ONE_LAYER = 1 / 12


@pytest.mark.parametrize(("way", "extra"), [("inplace", 0.2), ("copy", 1.2)])
def test_peak_memory(way, extra):
    command = [sys.executable, str(PROGRAM), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    optimizing, running = map(float, done.stdout.split())
    assert optimizing <= extra + ONE_LAYER
    assert running <= extra + ONE_LAYER
