"""The scaling curve: 1, 2, 4 ... streams of one core against one instance with as many threads."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, now
from benchmarks.measure import spread
from benchmarks.report import figure
from benchmarks.table import figures
from benchmarks.table.contest import Effort, Show, measure
from benchmarks.table.entrants import COMPILED, CORESTREAM, ENTRANTS, Entrant
from benchmarks.table.job import Job
from benchmarks.table.process import prepare_model

ITEMS_PER_CORE = 8
FILE_NAME = "scaling.json"

ONE_INSTANCE = "one-stream"


def entrants() -> dict[str, Entrant]:
    """The same lowered model on one stream of all cores, and what stock torch has for one."""
    return {
        CORESTREAM: Entrant(
            "streams of one core", "benchmarks.peers.streams:load", measures_itself=True
        ),
        ONE_INSTANCE: Entrant(
            "one stream of as many", "benchmarks.peers.streams:load_one", measures_itself=True
        ),
        COMPILED: ENTRANTS[COMPILED],
    }


def counts(num_cores: int) -> list[int]:
    """Powers of two, and all cores."""
    powers = [2**exponent for exponent in range(num_cores.bit_length()) if 2**exponent < num_cores]
    return [*powers, num_cores]


def measure_curve(
    results: Path, *, model: str, core_ids: Sequence[int], effort: Effort, show: Show
) -> dict[str, Any]:
    """Measures the curve and writes it beside the rows."""
    results.mkdir(parents=True, exist_ok=True)
    points = []
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=results) as folder:
        sizes = counts(len(core_ids))
        batches = [ITEMS_PER_CORE * size for size in sizes]
        prepare_model(model, Path(folder), dtypes=["fp32"], batches=batches)
        for size in sizes:
            job = Job(
                model=model,
                mode="throughput",
                dtype="fp32",
                batch=ITEMS_PER_CORE * size,
                core_ids=list(core_ids[:size]),
                num_streams=size,
                folder=folder,
            )
            found = measure(entrants(), job, effort=effort, logs=Path(folder), show=show)
            points.append({"num_cores": size, "batch": job.batch, "entrants": found})
    curve = {"model": model, "time": now(), "machine": describe(), "points": points}
    (results / FILE_NAME).write_text(json.dumps(curve, indent=1, ensure_ascii=False) + "\n")
    return curve


def load_curve(results: Path) -> dict[str, Any] | None:
    path = results / FILE_NAME
    curve: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return curve


def markdown(curve: dict[str, Any]) -> list[str]:
    """The curve as lines of Markdown: rates, and what streams gain over one instance."""
    names = list(curve["points"][0]["entrants"])
    labels = [curve["points"][0]["entrants"][name]["label"] for name in names]
    lines = [
        f"## Scaling, {curve['model']} fp32, {ITEMS_PER_CORE} images per core",
        "",
        f"| cores | {' | '.join(labels)} | streams / one stream |",
        f"|---:|{'---:|' * (len(names) + 1)}",
    ]
    for point in curve["points"]:
        cells = [_rate(point, name) for name in names]
        gain = figures.gain(point, ONE_INSTANCE)
        ratio = f"{gain.median:.2f} ({gain.p10:.2f}–{gain.p90:.2f})" if gain else "–"
        lines.append(f"| {point['num_cores']} | {' | '.join(cells)} | {ratio} |")
    return [*lines, ""]


def _rate(point: dict[str, Any], name: str) -> str:
    seconds = figures.seconds(point, name)
    if not seconds:
        return str(point["entrants"][name]["status"])
    return figure(spread([point["batch"] / value for value in seconds]).median)
