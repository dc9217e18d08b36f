"""The table as Markdown and on a terminal, from the rows' files."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.measure import Spread, percentile
from benchmarks.report import figure
from benchmarks.table import figures
from benchmarks.table.entrants import CORESTREAM, ENTRANTS
from benchmarks.table.figures import RowResult

AHEAD = "🔴"
UNITS = {"throughput": "items per second, more is better", "latency": "ms, less is better"}
Style = Callable[[str, bool], str]


def _columns(rows: Sequence[RowResult]) -> list[str]:
    present = {name for row in rows for name in row.get("entrants", {})}
    known = [name for name in ENTRANTS if name in present]
    return known + sorted(present - set(known))


def _label(rows: Sequence[RowResult], name: str) -> str:
    return next(
        str(row["entrants"][name]["label"]) for row in rows if name in row.get("entrants", {})
    )


def _cell(row: RowResult, name: str) -> str:
    """The figure of an entrant, or in a word why there is none."""
    entrant = row["entrants"].get(name)
    if entrant is None:
        return "–"
    if entrant["status"] != "ok":
        return str(entrant["status"])
    if row["mode"] == "latency":
        return figure(statistics.median(figures.seconds(row, name)) * 1e3)
    share = figures.share_of_peak(row, name)
    text = figure(figures.rate(row, name).median)
    return f"{text} ({share:.0%})" if share is not None and share >= 0.005 else text


def _ratio(value: Spread | None) -> str:
    return f"{value.median:.2f} ({value.p10:.2f}–{value.p90:.2f})" if value else "–"


def _body(rows: Sequence[RowResult], *, columns: Sequence[str], style: Style) -> list[list[str]]:
    """The lines of one table: the model, a cell for each entrant, the ratio to the best peer."""
    lines = []
    for row in rows:
        name = f"{row['model']}, batch {row['batch']}"
        if "skipped" in row:
            lines.append([name, *("–" for _ in columns), "–"])
            continue
        cells = [style(_cell(row, column), figures.is_ahead(row, column)) for column in columns]
        peer = figures.best(row)
        ratio = figures.gain(row, peer) if peer else None
        lines.append([name, *cells, _ratio(ratio)])
    return lines


def _groups(rows: Sequence[RowResult]) -> list[tuple[str, str, list[RowResult]]]:
    def key(row: RowResult) -> tuple[bool, bool]:
        return row["mode"] != "throughput", row["dtype"] != "fp32"

    ordered = sorted(rows, key=key)  # stable: models keep their order
    grouped = (list(group) for _, group in groupby(ordered, key))
    return [(group[0]["mode"], group[0]["dtype"], group) for group in grouped]


def _mark(text: str, is_ahead: bool) -> str:
    return f"{AHEAD} {text}" if is_ahead else text


def markdown(rows: Sequence[RowResult], *, reasons: dict[str, str], chart: str | None) -> str:
    """The whole page of a machine."""
    measured = [row for row in rows if "entrants" in row]
    lines = [*_heading(rows, measured), ""]
    if chart:
        lines += [f"![corestream over each peer, per row]({chart})", ""]
    for mode, dtype, group in _groups(rows):
        lines += [f"## {mode.capitalize()}, {dtype}", "", *_markdown_table(group), ""]
    lines += [*_foot(measured), *_behind(measured, reasons)]
    lines += [*_backends(measured), *_troubles(measured)]
    return "\n".join(lines).rstrip() + "\n"


def _heading(rows: Sequence[RowResult], measured: Sequence[RowResult]) -> list[str]:
    row = (measured or rows)[0]
    machine, dates = row["machine"], sorted(entry["time"] for entry in rows)
    stolen = max((entry["stolen"] for entry in measured), default=0.0)
    losses = [
        share
        for entry in measured
        for entrant in entry["entrants"].values()
        for share in entrant.get("lost", [])
    ]
    rounds = sorted(len(values) for entry in measured for values in [entry["peak"]]) or [0]
    return [
        f"# {machine['cpu']}, {row['num_cores']} cores",
        "",
        (
            f"Measured from {dates[0]} to {dates[-1]}: kernel {machine['kernel']}, torch "
            f"{machine['torch']} ({machine['capability']}), Python {machine['python']}; "
            f"{rounds[0]} to {rounds[-1]} rounds a row; the hypervisor took at most {stolen:.1%} "
            f"of a row's CPU time, it and other processes {percentile(losses or [0.0], 90):.1%} or "
            "less of nine turns in ten."
        ),
        "",
        (
            f"Throughput: {UNITS['throughput']}; in brackets the share of the fastest matrix "
            f"product of the same minutes. Latency: {UNITS['latency']}. The last column is "
            "corestream over the fastest peer of the row, taken round by round: median "
            f"(10th–90th percentile). {AHEAD}: this peer is ahead by more than {figures.TIE:.0%}. "
            "[Method](../performance.md)."
        ),
    ]


def _markdown_table(rows: Sequence[RowResult]) -> list[str]:
    measured = [row for row in rows if "entrants" in row]
    if not measured:
        return sorted({f"Not measured: {row['skipped']}." for row in rows})
    columns = _columns(measured)
    headings = ["model", *(_label(measured, name) for name in columns), "corestream / best peer"]
    body = _body(measured, columns=columns, style=_mark)
    rule = ["---", *("---:" for _ in headings[1:])]
    return [f"| {' | '.join(line)} |" for line in (headings, rule, *body)]


def _foot(rows: Sequence[RowResult]) -> list[str]:
    lines = ["## Geometric means, corestream over", ""]
    lines += ["| | mode | ratio | rows | target | |", "|---|---|---:|---:|---:|---|"]
    for mode in ("throughput", "latency"):
        for mean in figures.means(rows, mode=mode):
            wanted = f"≥ {mean.target:g}" if mean.target is not None else ""
            lines.append(
                f"| {mean.name} | {mode} | {mean.value:.2f} | {mean.count} | {wanted} "
                f"| {mean.verdict} |"
            )
    verdicts = [
        met
        for row in rows
        if (target := figures.target(row)) and (met := target.is_met(row)) is not None
    ]
    return [
        *lines,
        "",
        f"Rows that reach their own target: {sum(verdicts)} of {len(verdicts)}.",
        "",
    ]


def reason_key(row: RowResult, name: str) -> str:
    return f"{row['model']} {row['mode']} {row['dtype']} {name}"


def _behind(rows: Sequence[RowResult], reasons: dict[str, str]) -> list[str]:
    """Every red cell again, with why."""
    lines = [
        f"- {row['model']}, {row['mode']}, {row['dtype']}: {row['entrants'][name]['label']} is "
        f"{1 / ratio.median:.2f} times as fast. "
        f"{reasons.get(reason_key(row, name), 'Reason not found yet.')}"
        for row in rows
        for name in figures.names(row)
        if figures.is_ahead(row, name) and (ratio := figures.gain(row, name))
    ]
    return ["## Where a peer is ahead", "", *lines, ""] if lines else []


def _backends(rows: Sequence[RowResult]) -> list[str]:
    """Which of corestream's backends was the fastest where."""
    chosen: dict[str, list[str]] = {}
    for row in rows:
        backend = row["entrants"].get(CORESTREAM, {}).get("notes", {}).get("backend")
        if backend:
            chosen.setdefault(backend, []).append(f"{row['model']} {row['mode']} {row['dtype']}")
    lines = [f"- {backend}: {', '.join(names)}" for backend, names in chosen.items()]
    return ["## What corestream chose", "", *lines, ""] if lines else []


def _troubles(rows: Sequence[RowResult]) -> list[str]:
    """What failed or was wrong, and with what message."""
    lines = [
        f"- {row['model']}, {row['mode']}, {row['dtype']}: {entrant['label']} {entrant['status']}: "
        f"{entrant['reason']}"
        for row in rows
        for entrant in row["entrants"].values()
        if entrant["status"] != "ok"
    ]
    return ["## What did not run, or not right", "", *lines, ""] if lines else []


def load_reasons(path: Path) -> dict[str, str]:
    """Why a peer is ahead, written by hand: "MODEL MODE DTYPE ENTRANT" = "reason"."""
    content: dict[str, Any] = tomllib.loads(path.read_text()) if path.exists() else {}
    return {key: str(text) for key, text in content.items()}


def _red(text: str, is_ahead: bool) -> str:
    return f"[red]{escape(text)}[/]" if is_ahead else escape(text)


def print_rows(rows: Sequence[RowResult], console: Console) -> None:
    """The tables, with red where a peer is ahead."""
    for mode, dtype, group in _groups(rows):
        measured = [row for row in group if "entrants" in row]
        for reason in sorted({row["skipped"] for row in group if "skipped" in row}):
            console.print(f"{mode}, {dtype}: not measured: {reason}", markup=False)
        if not measured:
            continue
        columns = _columns(measured)
        table = Table(title=f"{mode}, {dtype}: {UNITS[mode]}", title_justify="left")
        table.add_column("")
        for name in columns:
            is_own = name == CORESTREAM
            table.add_column(
                _label(measured, name), justify="right", style="bold" if is_own else None
            )
        table.add_column("corestream / best peer", justify="right")
        for line in _body(measured, columns=columns, style=_red):
            table.add_row(*line)
        console.print(table)


def print_means(rows: Sequence[RowResult], console: Console) -> None:
    """The foot of the tables."""
    for mode in ("throughput", "latency"):
        for mean in figures.means(rows, mode=mode):
            wanted = f", target ≥ {mean.target:g}: {mean.verdict}" if mean.target else ""
            console.print(
                f"{mode}: {mean.value:.2f} × {mean.name} over {mean.count} rows{wanted}",
                markup=False,
                highlight=False,
            )
