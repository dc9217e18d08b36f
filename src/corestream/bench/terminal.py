"""A benchmark's report on a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corestream.bench.disturbance import Disturbance
from corestream.bench.report import ContenderReport, ModeReport, Report, Row, Verdict

_MIB = 2**20
# Below it are interrupts, and the kernel's ticks of 10 ms.
_WORTH_SAYING = 0.05
_STYLES = {True: "green", False: "red"}


def print_report(report: Report, *, console: Console) -> None:
    """Prints a report: for each mode who was measured, what they did, and the verdicts.

    Args:
        report: What was found.
        console: Where to.
    """
    machine = report.machine
    console.print(f"[bold]{escape(report.model)}[/], {report.kind}, inputs {_inputs(report)}")
    console.print(
        f"{escape(str(machine.get('cpu')))}, {machine.get('cpu_budget')} CPUs to use, "
        f"torch {machine.get('torch')}",
        style="dim",
    )
    for mode in report.modes:
        console.print()
        _draw_mode(mode, console=console)
    for note in report.notes:
        console.print(f"note: {escape(note)}", style="dim", highlight=False)
    for problem in report.problems:
        console.print(f"[bold red]problem:[/] {escape(problem)}", highlight=False)


def _inputs(report: Report) -> str:
    return escape(" ".join(report.inputs))


def _draw_mode(mode: ModeReport, *, console: Console) -> None:
    if mode.mode == "offline":
        what = f"batch {mode.batch_size}, {_count(mode.num_cores, 'core')}"
    else:
        what = f"{_batch(mode.batch_size)}, {_count(mode.team_size, 'core')} a stream"
    console.print(
        f"[bold]{mode.mode}[/]: {what}; {mode.rounds} rounds of {mode.turn_s:.2g} s a turn",
        highlight=False,
    )
    console.print(_contenders_table(mode))
    console.print(_rows_table(mode))
    for row in mode.rows:
        if lost := row.failed + row.rejected:
            console.print(
                f"[red]{row.load}, {row.contender}: {lost} of {lost + row.completed} requests were "
                f"not answered[/]",
                highlight=False,
            )
        if text := _disturbance_text(row.disturbance):
            console.print(
                f"disturbed: {row.load}, {row.contender}: {text}", style="dim", highlight=False
            )
    for verdict in mode.verdicts:
        console.print(_verdict_line(verdict), highlight=False)
    for contender in mode.contenders:
        for note in contender.notes:
            console.print(f"note: {contender.name}: {escape(note)}", style="dim", highlight=False)
    for note in mode.notes:
        console.print(f"note: {escape(note)}", style="dim", highlight=False)


def _batch(batch_size: int | None) -> str:
    return "a call a request" if batch_size is None else f"batch {batch_size}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _contenders_table(mode: ModeReport) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("who", no_wrap=True)
    for name in ("streams", "RSS MiB", "PSS MiB", "set-up s", "error"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what")
    for contender in mode.contenders:
        table.add_row(
            f"[bold]{contender.name}[/]",
            str(contender.num_streams or ""),
            _mib(contender.rss_bytes),
            _mib(contender.pss_bytes),
            f"{contender.setup_s:.1f}",
            "" if contender.error is None else f"{contender.error:.1e}",
            _what(contender),
        )
    return table


def _what(contender: ContenderReport) -> str:
    lowered = f" ({contender.lowered})" if contender.lowered else ""
    return escape(contender.label + lowered)


def _rows_table(mode: ModeReport) -> Table:
    """Fits into 80 columns, what is redirected included."""
    unit = "requests" if mode.batch_size in (None, 1) else "items"
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("load", "who"):
        table.add_column(name, no_wrap=True)
    for name in (f"{unit}/s", "of rounds", "p50 ms", "p90", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    previous = ""
    for row in mode.rows:
        if previous and row.load != previous:
            table.add_section()
        table.add_row(row.load if row.load != previous else "", row.contender, *_cells(row))
        previous = row.load
    return table


def _cells(row: Row) -> list[str]:
    latencies = ["–" if value is None else figure(value) for value in row.latency_ms.values()]
    return [
        figure(row.items_per_s),
        f"{figure(row.items_per_s_low)}–{figure(row.items_per_s_high)}",
        *latencies,
    ]


def _disturbance_text(disturbance: Disturbance) -> str:
    shares = {
        "other processes": disturbance.others_share,
        "the hypervisor": disturbance.stolen_share,
    }
    words = [
        f"{name} had {share:.0%} of the CPUs"
        for name, share in shares.items()
        if share >= _WORTH_SAYING
    ]
    if disturbance.num_throttled:
        words.append(f"the CPU quota stopped it {disturbance.num_throttled} times")
    return ", ".join(words)


def _verdict_line(verdict: Verdict) -> str:
    style = "yellow"
    if verdict.is_beyond_noise and verdict.ratio is not None:
        style = _STYLES[verdict.ratio > 1]
    return f"{verdict.load}, {verdict.contender}: [{style}]{verdict.text}[/]"


def _mib(value: int | None) -> str:
    return "–" if value is None else f"{value / _MIB:.0f}"


def figure(value: float) -> str:
    """Three digits that count, in six characters.

    Args:
        value: A number that is not negative.

    Example:
        >>> figure(0.01234), figure(12.34), figure(1234.5), figure(123456)
        ('0.012', '12.3', '1234', '123k')
    """
    if value >= 10_000:
        return f"{value / 1000:.0f}k" if value >= 99_950 else f"{value / 1000:.1f}k"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3f}" if value < 0.1 else f"{value:.3g}"
