"""One copy of the weights, and no growth: measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("memory_program.py")

# 40 bytes a call: a Python object that each call left behind would take more, an input or output
# 10 times as much at least. Measured: 4 to 12 KB in all.
GROWTH_BYTES = 400_000


def measured(*arguments: str) -> list[int]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(PROGRAM), *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    return [int(number) for number in output.stdout.split()]


def test_five_streams_share_the_weights_of_one():
    weights, more = measured("weights")
    assert weights > 200_000_000
    assert more < weights / 10


def test_memory_is_flat_over_many_calls_with_many_shapes():
    (growth,) = measured("shapes")
    assert growth < GROWTH_BYTES
