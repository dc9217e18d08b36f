"""The picture as PNG, by matplotlib, which only this needs."""

from __future__ import annotations

import os
from typing import Any

from corestream.topo.page import Box, Page, Text, make_page
from corestream.topo.picture import Picture

DPI = 144
"""Two pixels for each unit of the page."""

_POINT = 72 / DPI * 2


def write_png(picture: Picture, path: str | os.PathLike[str]) -> None:
    """Write a picture as a PNG file.

    Args:
        picture: What to draw.
        path: The file.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> from corestream.topo import read_picture
        >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
        ...     write_png(read_picture(), file.name)
        ...     file.read(4)[1:]
        b'PNG'

    Thread-safe for one file each; holds the GIL.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"matplotlib must be installed to write a PNG; got: {error}; run "
            "pip install 'corestream[plot]', or write an SVG, which needs nothing"
        ) from error
    page = make_page(picture)
    figure = Figure(figsize=(page.width / 72, page.height / 72), dpi=DPI)
    FigureCanvasAgg(figure)
    _draw(page, figure)
    figure.savefig(path, format="png")


def _draw(page: Page, figure: Any) -> None:
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, page.width)
    axes.set_ylim(page.height, 0)
    axes.set_axis_off()
    for mark in page.marks:
        if isinstance(mark, Box):
            _draw_box(mark, axes)
        else:
            _draw_text(mark, axes)


def _draw_box(box: Box, axes: Any) -> None:
    from matplotlib.patches import FancyBboxPatch

    # The patch is grown by the radius on every side.
    r = box.radius
    axes.add_patch(
        FancyBboxPatch(
            (box.x + r, box.y + r),
            box.width - 2 * r,
            box.height - 2 * r,
            boxstyle=f"round,pad={r},rounding_size={r}" if r else "square,pad=0",
            facecolor=box.fill,
            edgecolor=box.edge or "none",
            linewidth=box.edge_width * _POINT if box.edge else 0,
            linestyle=(0, (3, 2)) if box.is_dashed else "solid",
        )
    )


def _draw_text(text: Text, axes: Any) -> None:
    axes.text(
        text.x,
        text.y,
        text.text,
        fontsize=text.size * _POINT,
        fontfamily="DejaVu Sans",
        fontweight="bold" if text.is_bold else "normal",
        color=text.colour,
        verticalalignment="center_baseline",
        parse_math=False,
    )
