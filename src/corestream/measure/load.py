"""Load on something that answers requests: users who wait, and requests that do not wait for users.

A closed loop has a number of users, each of whom sends the next request when the last is answered:
what it measures is capacity. In an open loop requests arrive when they arrive, as from the many
users of a service: what it measures is what they wait at that rate. A request's latency there
counts from when it was due, so that a system that stalls cannot keep requests from being counted by
keeping them from being sent ("coordinated omission").
"""

from __future__ import annotations

from corestream.measure.closed_loop import closed_loop
from corestream.measure.open_loop import arrival_times, open_loop, open_loop_of_threads
from corestream.measure.requests import (
    TIMEOUT_S,
    Clock,
    FutureLike,
    LoadResult,
    Submit,
    SystemClock,
    as_submit,
)

__all__ = [
    "TIMEOUT_S",
    "Clock",
    "FutureLike",
    "LoadResult",
    "Submit",
    "SystemClock",
    "arrival_times",
    "as_submit",
    "closed_loop",
    "open_loop",
    "open_loop_of_threads",
]
