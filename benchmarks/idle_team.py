"""Whether a team that the main thread left over slows a stream of two cores."""

from __future__ import annotations

from typing import Any

from benchmarks.contest import Entrant, compete, medians
from benchmarks.machine import core_ids
from benchmarks.measure import Effort, ratios, spread
from benchmarks.report import Report, Row, Target, show_spread

NAME = "idle_team"
TITLE = "MobileNetV2, batch 1, 1 stream × 2 cores, with and without a team of the main thread"

LIMIT = 1.1

TEAMS = {
    "no team": "none",
    "left over from tracing": "before",
    "used again afterwards": "after",
}


def _rows(dtype: str, effort: Effort) -> list[Row]:
    common: dict[str, Any] = {
        "model": "MobileNetV2",
        "batch": 1,
        "dtype": dtype,
        "core_ids": core_ids(),
        "num_streams": 1,
    }
    entrants = {
        name: Entrant("benchmarks.models_on_cores:streams", common | {"main_team": team})
        for name, team in TEAMS.items()
    }
    answers = compete(entrants, effort=effort, request={"seconds": effort.seconds})
    times = {name: medians(turns) for name, turns in answers.items()}
    rows = []
    for name, target in (
        ("left over from tracing", Target(at_most=LIMIT)),
        ("used again afterwards", None),
    ):
        notes = {
            "with": show_spread(spread(times[name]).scaled(1e3), "ms"),
            "without": show_spread(spread(times["no team"]).scaled(1e3), "ms"),
        }
        value = ratios(times[name], times["no team"])
        rows.append(Row(f"{dtype}, team {name}", value, "×", target, notes))
    return rows


def run(effort: Effort) -> Report:
    rows = [row for dtype in ("fp32", "bf16") for row in _rows(dtype, effort)]
    remarks = (
        "Starting streams ends the idle team of the thread that does so, and each task that is "
        "submitted to streams with teams ends that of the thread which submits it."
    )
    return Report(NAME, TITLE, rows, [remarks])
