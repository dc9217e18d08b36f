"""A benchmark's report as a picture: rates with the rounds' spread, and latencies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corestream.bench.report import ModeReport, Report, Row
from corestream.bench.terminal import figure

_COLOURS = {
    "stock": "#8a8f98",
    "corestream": "#1f77b4",
    "threads": "#c5b0d5",
    "instances": "#98c379",
    "compile": "#e5a155",
}
# Of the latencies drawn as bars upon one another: from p50 to p99.
_SHADES = {50: 1.0, 90: 0.55, 99: 0.3}


def write_chart(report: Report, path: Path) -> None:
    """Draws a report.

    Args:
        report: What was found.
        path: Where to; the folder must exist.

    Raises:
        ImportError: matplotlib is missing.
        OSError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [_height(mode) for mode in report.modes]
    drawing = Figure(figsize=(11, 1.0 + sum(heights)), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(
        len(report.modes), 2, squeeze=False, height_ratios=heights or None, width_ratios=(1, 1)
    )
    for (left, right), mode in zip(axes, report.modes, strict=True):
        _draw_rates(left, mode)
        _draw_latencies(right, mode)
    machine = report.machine
    drawing.suptitle(
        f"{report.model}, inputs {' '.join(report.inputs)}\n{machine.get('cpu')}, "
        f"{machine.get('cpu_budget')} CPUs to use, torch {machine.get('torch')}",
        fontsize=10,
    )
    drawing.savefig(path, format="png", dpi=130)


def _height(mode: ModeReport) -> float:
    return 1.0 + 0.32 * len(mode.rows)


def _positions(mode: ModeReport) -> tuple[list[float], list[tuple[float, str]]]:
    """Of each row, from the top, with a gap between loads; and the middle of each load."""
    positions: list[float] = []
    groups: dict[str, list[float]] = {}
    place, previous = 0.0, ""
    for row in mode.rows:
        place += 1.0 if row.load == previous or not previous else 1.6
        positions.append(place)
        groups.setdefault(row.load, []).append(place)
        previous = row.load
    return positions, [(sum(places) / len(places), load) for load, places in groups.items()]


def _prepare(axes: Any, mode: ModeReport) -> list[float]:
    positions, groups = _positions(mode)
    axes.set_yticks([place for place, _ in groups], [load for _, load in groups])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return positions


def _colour(row: Row) -> str:
    return _COLOURS.get(row.contender, "#666666")


def _draw_rates(axes: Any, mode: ModeReport) -> None:
    positions = _prepare(axes, mode)
    named: set[str] = set()
    for place, row in zip(positions, mode.rows, strict=True):
        spread = [[row.items_per_s - row.items_per_s_low], [row.items_per_s_high - row.items_per_s]]
        label = row.contender if row.contender not in named else None
        named.add(row.contender)
        axes.barh(
            place,
            row.items_per_s,
            height=0.85,
            color=_colour(row),
            xerr=spread,
            error_kw={"ecolor": "#333333", "elinewidth": 1, "capsize": 2},
            label=label,
        )
        axes.annotate(
            f" {figure(row.items_per_s)}",
            (row.items_per_s_high, place),
            va="center",
            fontsize=8,
        )
    unit = "requests" if mode.batch_size in (None, 1) else "items"
    axes.set_title(f"{mode.mode}: {unit}/s, median and range of {mode.rounds} rounds", fontsize=10)
    axes.margins(x=0.15)
    axes.set_xlim(left=0)
    axes.legend(fontsize=8, frameon=False, loc="best")


def _draw_latencies(axes: Any, mode: ModeReport) -> None:
    positions = _prepare(axes, mode)
    for place, row in zip(positions, mode.rows, strict=True):
        start = 0.0
        for percent, alpha in _SHADES.items():
            latency = row.latency_ms.get(percent)
            if latency is None:
                continue
            axes.barh(
                place,
                latency - start,
                left=start,
                height=0.85,
                color=_colour(row),
                alpha=alpha,
                linewidth=0,
            )
            start = latency
        if start:
            axes.annotate(f" {figure(start)}", (start, place), va="center", fontsize=8)
    axes.set_title("latency in ms: p50, p90, p99 from dark to light", fontsize=10)
    axes.margins(x=0.15)
    axes.set_xlim(left=0)
