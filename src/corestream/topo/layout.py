"""Where everything in a picture goes: one arrangement for the terminal, SVG and PNG.

Boxes are laid out from the inside outwards. What lies in a box is arranged in the number of
columns that makes it widest within the limit and nearest to the shape of a page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from corestream.cpu.machine import CoreType
from corestream.topo.cells import Cell, Cells, Cluster
from corestream.topo.picture import State
from corestream.topo.tree import Box, Kind


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Sizes in the units of a drawing: pixels, or characters and lines.

    Attributes:
        text_width: Width of a text.
        line: Height of a line of text.
        spot: Height of a spot; it is as wide as the widest text on one.
        spot_margin: Room for a spot's text on both sides together.
        is_stacked: Whether the CPUs of a core stand on top of each other.
        core_margin: Between the edge of a core and its spots.
        gap: Between cells, across and down.
        padding: Between the edge of a box and what is in it: at the sides, above, below. That
            above holds one line of title.
        title_y: Where that line begins.
        box_gap: Between boxes, across and down.
        aspect: Width of a pleasant block by its height.
    """

    text_width: Callable[[str], int]
    line: int
    spot: int
    spot_margin: int
    is_stacked: bool
    core_margin: int
    gap: tuple[int, int]
    padding: tuple[int, int, int]
    title_y: int
    box_gap: tuple[int, int]
    aspect: float


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """Where something is."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Frame(Rectangle):
    """The edge of a box."""

    kind: Kind


@dataclass(frozen=True, kw_only=True)
class CoreFrame(Rectangle):
    """The edge of a core or of a run of cores."""

    core_type: CoreType | None


@dataclass(frozen=True, kw_only=True)
class Patch(Rectangle):
    """A spot."""

    text: str
    note: str
    state: State
    is_run: bool


@dataclass(frozen=True, kw_only=True)
class Words(Rectangle):
    """A line of text that begins at x; `role` is `title` or `caption`."""

    text: str
    role: str


Shape = Frame | CoreFrame | Patch | Words


@dataclass
class Area:
    """Shapes in a rectangle whose upper left corner is 0, 0."""

    width: int = 0
    height: int = 0
    shapes: list[Shape] = field(default_factory=list)

    def put(self, other: Area, *, x: int, y: int) -> None:
        """Add the shapes of another area at a place, and grow to hold them."""
        self.shapes += [replace(s, x=s.x + x, y=s.y + y) for s in other.shapes]
        self.width = max(self.width, x + other.width)
        self.height = max(self.height, y + other.height)


def lay_out(boxes: Sequence[Box], cells: Cells, *, metrics: Metrics, max_width: int) -> Area:
    """Return the shapes of a picture.

    Args:
        boxes: The outermost boxes.
        cells: Makes the cells.
        metrics: The sizes.
        max_width: Widest that the picture should be; a single cell may force it wider.
    """
    clusters = [cluster for box in _all_boxes(boxes) for cluster in cells.of_box(box)]
    texts = [spot.text + spot.note for c in clusters for cell in c.cells for spot in cell.spots]
    widest = max(map(metrics.text_width, texts), default=0) + metrics.spot_margin
    return _Arranger(cells, metrics=metrics, spot_width=widest).boxes(boxes, max_width)


def _all_boxes(boxes: Sequence[Box]) -> list[Box]:
    return [found for box in boxes for found in (box, *_all_boxes(box.boxes))]


class _Arranger:
    def __init__(self, cells: Cells, *, metrics: Metrics, spot_width: int) -> None:
        self._cells = cells
        self._metrics = metrics
        self._spot_width = spot_width

    def boxes(self, boxes: Sequence[Box], max_width: int) -> Area:
        areas = [self._box(box, max_width) for box in boxes]
        # Neighbours are of one size, which is what most machines are like.
        width = max((area.width for area in areas), default=0)
        height = max((area.height for area in areas), default=0)
        for box, area in zip(boxes, areas, strict=True):
            area.width, area.height = width, height
            area.shapes.insert(0, Frame(x=0, y=0, width=width, height=height, kind=box.kind))
        return self._grid(areas, max_width, gap=self._metrics.box_gap)

    def _box(self, box: Box, max_width: int) -> Area:
        """Return a box without its frame."""
        metrics = self._metrics
        side, above, below = metrics.padding
        limit = max_width - 2 * side
        inside = Area()
        for cluster in self._cells.of_box(box):
            self._below(inside, self._cluster(cluster, limit))
        if box.boxes:
            self._below(inside, self.boxes(box.boxes, limit))
        titles = self._titles(box.titles, width=inside.width)
        extra = (len(titles) - 1) * metrics.line
        area = Area()
        for row, title in enumerate(titles):
            text = self._words(title, role="title")
            area.put(text, x=side, y=metrics.title_y + row * metrics.line)
        area.put(inside, x=side, y=above + extra)
        area.width += side
        area.height += below
        return area

    def _below(self, area: Area, other: Area) -> None:
        gap = self._metrics.box_gap[1] if area.height else 0
        area.put(other, x=0, y=area.height + gap)

    def _titles(self, titles: Sequence[str], *, width: int) -> list[str]:
        """Join titles to lines of at most `width`, or of one title."""
        lines: list[str] = []
        for title in titles:
            longer = f"{lines[-1]} · {title}" if lines else title
            if lines and self._metrics.text_width(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(title)
        return lines

    def _words(self, text: str, *, role: str) -> Area:
        width, height = self._metrics.text_width(text), self._metrics.line
        return Area(
            width, height, [Words(x=0, y=0, width=width, height=height, text=text, role=role)]
        )

    def _cluster(self, cluster: Cluster, max_width: int) -> Area:
        cells = [self._cell(cell, cluster.core_type) for cell in cluster.cells]
        grid = self._grid(cells, max_width, gap=self._metrics.gap)
        if not cluster.caption:
            return grid
        area = self._words(cluster.caption, role="caption")
        area.put(grid, x=0, y=area.height)
        return area

    def _cell(self, cell: Cell, core_type: CoreType | None) -> Area:
        metrics, margin = self._metrics, self._metrics.core_margin
        columns, rows = (1, len(cell.spots)) if metrics.is_stacked else (len(cell.spots), 1)
        width = columns * self._spot_width + 2 * margin
        height = rows * metrics.spot + 2 * margin
        area = Area(width, height)
        area.shapes.append(CoreFrame(x=0, y=0, width=width, height=height, core_type=core_type))
        for index, spot in enumerate(cell.spots):
            column, row = (0, index) if metrics.is_stacked else (index, 0)
            area.shapes.append(
                Patch(
                    x=margin + column * self._spot_width,
                    y=margin + row * metrics.spot,
                    width=self._spot_width,
                    height=metrics.spot,
                    text=spot.text,
                    note=spot.note,
                    state=spot.state,
                    is_run=cell.is_run,
                )
            )
        return area

    def _grid(self, areas: Sequence[Area], max_width: int, *, gap: tuple[int, int]) -> Area:
        """Arrange areas in rows, in the number of columns whose shape pleases most."""
        if not areas:
            return Area()
        width = max(area.width for area in areas)
        height = max(area.height for area in areas)
        fitting = max(1, min(len(areas), (max_width + gap[0]) // (width + gap[0])))

        def displeasure(columns: int) -> float:
            rows = math.ceil(len(areas) / columns)
            across = columns * (width + gap[0])
            down = rows * (height + gap[1])
            empty = (rows * columns - len(areas)) / len(areas)
            return abs(math.log(across / down / self._metrics.aspect)) + empty

        columns = min(range(1, fitting + 1), key=displeasure)
        grid = Area()
        y = 0
        for start in range(0, len(areas), columns):
            row = areas[start : start + columns]
            x = 0
            for area in row:
                grid.put(area, x=x, y=y)
                # Equal columns, so that the same thing stands below the same thing.
                x += width + gap[0]
            y = grid.height + gap[1]
        return grid
