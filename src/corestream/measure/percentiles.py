"""Percentiles of what was observed: no value that nobody waited."""

from __future__ import annotations

import math
from collections.abc import Iterable


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest of `values` that at least `percent` of a hundred of them do not exceed.

    The nearest rank, without interpolation: the p99 of 50 latencies is the largest of them, for
    nothing is known of one wait in a hundred.

    Args:
        values: At least one number.
        percent: Above 0, at most 100; 100 is the maximum.

    Returns:
        One of the values.

    Raises:
        ValueError: There is no value, or `percent` is out of range.

    Example:
        >>> percentile([4.0, 1.0, 3.0, 2.0], 50), percentile([4.0, 1.0, 3.0, 2.0], 99)
        (2.0, 4.0)

    Thread-safe; a pure function that holds the GIL.
    """
    if not 0 < percent <= 100:
        raise ValueError(
            f"percent must be above 0 and at most 100; got {percent!r}; write 99 for the p99"
        )
    ordered = sorted(values)
    if not ordered:
        raise ValueError("values must hold at least one number; got none; measure for longer")
    # 99.9 * 1000 / 100 is a little more than 999 in binary; the rank is not.
    rank = math.ceil(round(percent * len(ordered) / 100, 9))
    return ordered[max(rank, 1) - 1]
