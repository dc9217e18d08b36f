"""What a benchmark found: rows with a target and a verdict, as a table and as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Spread

RESULTS = Path(__file__).parent / "results"

_COLOUR = {"PASS": "green", "FAIL": "red", "": "dim"}


@dataclass(frozen=True, slots=True)
class Target:
    """What the median must not exceed, or must reach."""

    at_most: float | None = None
    at_least: float | None = None

    def __str__(self) -> str:
        return f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"

    def is_met(self, value: float) -> bool:
        if self.at_most is not None:
            return value <= self.at_most
        return self.at_least is not None and value >= self.at_least


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure.

    Attributes:
        name: What was measured.
        value: The figure that the target speaks of.
        unit: Its unit, "×" for a ratio.
        target: None for a figure that only helps to read the others.
        notes: Further columns: heading to text.
    """

    name: str
    value: Spread
    unit: str
    target: Target | None = None
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "PASS" if self.target.is_met(self.value.median) else "FAIL"


@dataclass(frozen=True, slots=True)
class Report:
    """The rows of one benchmark.

    Attributes:
        name: The benchmark's name, also that of its JSON file.
        title: What it measures, in a line.
        rows: What it found.
        remarks: Lines to print below the table.
    """

    name: str
    title: str
    rows: Sequence[Row]
    remarks: Sequence[str] = ()


def figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{digits}f}"


def show_spread(value: Spread, unit: str) -> str:
    return f"{figure(value.median)} {unit} ({figure(value.p10)}–{figure(value.p90)})"


def print_report(report: Report) -> None:
    # Without a terminal rich would wrap at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 200)
    headings = list(dict.fromkeys(heading for row in report.rows for heading in row.notes))
    table = Table(title=f"{report.name}: {report.title}", title_justify="left", title_style="bold")
    for heading in ("", "median", "p10–p90", "target", "verdict", *headings):
        table.add_column(heading, justify="left" if heading in ("", "verdict") else "right")
    for row in report.rows:
        table.add_row(
            row.name,
            f"{figure(row.value.median)} {row.unit}",
            f"{figure(row.value.p10)}–{figure(row.value.p90)}",
            f"{row.target} {row.unit}" if row.target else "",
            f"[{_COLOUR[row.verdict]}]{row.verdict}[/]" if row.verdict else "",
            *(row.notes.get(heading, "") for heading in headings),
        )
    console.print(table)
    for remark in report.remarks:
        console.print(remark, markup=False, highlight=False)
    console.print()


def save_report(report: Report, *, machine: dict[str, object], is_quick: bool) -> Path:
    """Writes the report and what it ran on to results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    content = {
        "machine": machine,
        "is_quick": is_quick,
        "title": report.title,
        "rows": [
            {
                **dataclasses.asdict(row),
                "target": str(row.target) if row.target else None,
                "verdict": row.verdict,
            }
            for row in report.rows
        ],
        "remarks": list(report.remarks),
    }
    path = RESULTS / f"{report.name}.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return path
