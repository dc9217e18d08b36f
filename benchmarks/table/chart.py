"""The table as a picture: for each row how fast corestream is, with stock eager as 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.table import figures
from benchmarks.table.entrants import CORESTREAM, ENTRANTS, STOCK
from benchmarks.table.figures import RowResult

_GREY = ("#bdbdbd", "#969696", "#80b1d3", "#fdb462", "#b3de69", "#bc80bd", "#fccde5")
_OWN = "#d62728"


def draw(rows: Sequence[RowResult], path: Path) -> bool:
    """Writes a PNG with one panel per mode and dtype; False if there is nobody beside stock."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [row for row in rows if figures.seconds(row, STOCK) and len(figures.names(row)) > 1]
    panels = list(dict.fromkeys((row["mode"], row["dtype"]) for row in drawn))
    if not panels:
        return False
    picture = Figure(figsize=(12, 3.6 * len(panels)), layout="constrained")
    FigureCanvasAgg(picture)
    for axes, panel in zip(picture.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        _draw_panel(axes, [row for row in drawn if (row["mode"], row["dtype"]) == panel])
        axes.set_title(f"{panel[0]}, {panel[1]}: times as fast as stock eager", loc="left")
    picture.savefig(path, dpi=110)
    return True


def _draw_panel(axes, rows: Sequence[RowResult]) -> None:  # type: ignore[no-untyped-def]
    present = {name for row in rows for name in figures.names(row)} - {STOCK}
    columns = [name for name in ENTRANTS if name in present] or sorted(present)
    width = 0.85 / max(1, len(columns))
    for index, name in enumerate(columns):
        gains = [figures.gain(row, STOCK, name=name) for row in rows]
        axes.bar(
            [place + index * width for place in range(len(rows))],
            [gain.median if gain else 0 for gain in gains],
            width,
            label=ENTRANTS[name].label if name in ENTRANTS else name,
            color=_OWN if name == CORESTREAM else _GREY[index % len(_GREY)],
        )
    axes.axhline(1, color="black", linewidth=0.8)
    middle = 0.85 / 2 - width / 2
    axes.set_xticks([place + middle for place in range(len(rows))])
    axes.set_xticklabels([row["model"] for row in rows], rotation=30, ha="right")
    axes.legend(fontsize="small", ncols=4)
