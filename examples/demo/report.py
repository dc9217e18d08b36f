"""The demo's tables."""

from __future__ import annotations

from itertools import groupby

from results import Measurement, Neighbour
from rich.console import Console
from rich.table import Table

OURS = "corestream"


def print_loads(console: Console, measurements: list[Measurement]) -> None:
    """Throughput, latency and memory of both engines, load by load."""
    table = Table(title="One sentence a request, every user waits for its answer")
    table.add_column("users", justify="right")
    table.add_column("engine")
    for column in ("requests/s", "", "p50 ms", "p99 ms", "memory MB"):
        table.add_column(column, justify="right")
    for users, group in groupby(measurements, key=lambda each: each.users):
        stock, ours = group
        faster = f"×{ours.requests_per_s / stock.requests_per_s:.1f}"
        table.add_row(str(users), *_cells(stock, ""))
        table.add_row("", *_cells(ours, faster), style="bold green", end_section=True)
    console.print(table)


def _cells(each: Measurement, faster: str) -> list[str]:
    return [
        each.engine,
        f"{each.requests_per_s:.0f}",
        faster,
        f"{each.p50_ms:.1f}",
        f"{each.p99_ms:.1f}",
        f"{each.memory_mb:.0f}",
    ]


def print_nearest(console: Console, query: str, *, found: dict[str, list[Neighbour]]) -> None:
    """What each engine finds nearest to the query."""
    table = Table(title=f"Nearest to: {query}")
    table.add_column("engine")
    table.add_column("cosine", justify="right")
    table.add_column("sentence of the Python language reference")
    for engine, neighbours in found.items():
        style = "bold green" if engine == OURS else ""
        for neighbour in neighbours:
            cells = (engine, f"{neighbour.cosine:.5f}", neighbour.sentence)
            table.add_row(*cells, style=style, end_section=neighbour is neighbours[-1])
    console.print(table)
