"""The picture on paper: rectangles and lines of text, for SVG and PNG alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from corestream.topo.cells import Cells
from corestream.topo.colours import DARK, fill_of, text_of
from corestream.topo.layout import CoreFrame, Frame, Metrics, Patch, Shape, Words, lay_out
from corestream.topo.picture import Picture, State
from corestream.topo.tree import boxes_of
from corestream.topo.words import headline, legend, summary

FOLD_ABOVE = 256
"""Most cores to draw one by one; more would make their ids too small on a screen."""

MAX_WIDTH = 1180
MIN_WIDTH = 560

_MARGIN = 16
_SPOT_TEXT = 11
_NOTE_TEXT = 8
_TEXT = 12

_BOXES = {  # fill, edge
    "package": ("#ffffff", "#3c4a57"),
    "node": ("#f2f6f9", "#7d93a6"),
    "l3": ("#fdf7e8", "#c9a54d"),
}

# Widths by font size of DejaVu Sans, which Verdana shares, rounded up.
_NARROW, _WIDE = set(" .,:;'|!()ijlIftr-"), set("mwMWGOQNDHU@%")


METRICS = Metrics(
    text_width=lambda text: round(text_width(text, size=_TEXT)),
    line=18,
    spot=20,
    spot_margin=10,
    is_stacked=True,
    core_margin=3,
    gap=(5, 5),
    padding=(10, 28, 10),
    title_y=5,
    box_gap=(10, 10),
    aspect=1.9,
)


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    edge: str | None = None
    edge_width: float = 1
    is_dashed: bool = False
    radius: float = 0


@dataclass(frozen=True, kw_only=True)
class Text:
    """A line of text whose left end is at x, and whose middle is at y."""

    x: float
    y: float
    text: str
    size: int = _TEXT
    colour: str = DARK
    is_bold: bool = False


@dataclass
class Page:
    """What is drawn, in the order of drawing."""

    title: str
    width: float = MIN_WIDTH
    height: float = _MARGIN
    marks: list[Box | Text] = field(default_factory=list)

    def write(self, text: str, *, size: int = _TEXT, is_bold: bool = False) -> None:
        """Add lines of text below what is there, as many as the width takes."""
        room = self.width - 2 * _MARGIN
        for line in wrap(text, size=size, width=room, is_bold=is_bold):
            self.marks.append(
                Text(x=_MARGIN, y=self.height + 9, text=line, size=size, is_bold=is_bold)
            )
            self.height += 18


def make_page(picture: Picture) -> Page:
    """Return a picture as rectangles and text.

    Args:
        picture: What to draw.
    """
    cells = Cells(
        picture,
        is_folded=len(picture.topology.cores) > FOLD_ABOVE,
        mark=lambda state: f"s{state}" if isinstance(state, int) else "",
    )
    area = lay_out(boxes_of(picture.topology), cells, metrics=METRICS, max_width=MAX_WIDTH)
    page = Page(headline(picture), width=max(MIN_WIDTH, area.width + 2 * _MARGIN))
    page.write(page.title, size=14, is_bold=True)
    page.height += 6
    for shape in area.shapes:
        page.marks += _marks(shape, x=_MARGIN, y=page.height)
    page.height += area.height + 10
    _add_legend(page, legend(picture))
    for line in summary(picture):
        page.write(line)
    page.height += _MARGIN - 6
    return page


def _marks(shape: Shape, *, x: float, y: float) -> Sequence[Box | Text]:
    x, y = x + shape.x, y + shape.y
    if isinstance(shape, Frame):
        fill, edge = _BOXES[shape.kind]
        return [
            Box(
                x=x,
                y=y,
                width=shape.width,
                height=shape.height,
                fill=fill,
                edge=edge,
                edge_width=2 if shape.kind == "package" else 1,
                radius=6,
            )
        ]
    if isinstance(shape, CoreFrame):
        return [
            Box(
                x=x,
                y=y,
                width=shape.width,
                height=shape.height,
                fill="#ffffff",
                edge="#9aa7b2",
                is_dashed=shape.core_type == "efficient",
                radius=4,
            )
        ]
    if isinstance(shape, Words):
        is_title = shape.role == "title"
        return [Text(x=x, y=y + shape.height / 2, text=shape.text, is_bold=is_title)]
    return _spot(shape, x=x, y=y)


def _spot(patch: Patch, *, x: float, y: float) -> list[Box | Text]:
    """Return a patch of colour with its text, the note behind it smaller."""
    colour = text_of(patch.state)
    note_size = _SPOT_TEXT if patch.is_run else _NOTE_TEXT
    text_length = text_width(patch.text, size=_SPOT_TEXT, is_bold=True)
    length = text_length + (1 + text_width(patch.note, size=note_size) if patch.note else 0)
    left = x + (6 if patch.is_run else (patch.width - length) / 2)
    middle = y + patch.height / 2
    marks: list[Box | Text] = [
        Box(
            x=x + 0.5,
            y=y + 0.5,
            width=patch.width - 1,
            height=patch.height - 1,
            fill=fill_of(patch.state),
            radius=2,
        ),
        Text(x=left, y=middle, text=patch.text, size=_SPOT_TEXT, colour=colour, is_bold=True),
    ]
    if patch.note:
        at = left + text_length + 1
        drop = 0 if patch.is_run else 2
        marks.append(Text(x=at, y=middle + drop, text=patch.note, size=note_size, colour=colour))
    return marks


def _add_legend(page: Page, entries: Sequence[tuple[Sequence[State], str]]) -> None:
    x = float(_MARGIN)
    for states, meaning in entries:
        samples = 22 * len(states)
        length = samples + 6 + text_width(meaning, size=_TEXT) + 18
        if x > _MARGIN and x + length > page.width - _MARGIN:
            x = _MARGIN
            page.height += 22
        for index, state in enumerate(states):
            left = x + 22 * index
            page.marks.append(
                Box(x=left, y=page.height, width=20, height=16, fill=fill_of(state), radius=2)
            )
        page.marks.append(Text(x=x + samples + 4, y=page.height + 8, text=meaning))
        x += length
    page.height += 28


def text_width(text: str, *, size: float, is_bold: bool = False) -> float:
    """Return about how wide a text is, in the unit of its size, rather more than less.

    Args:
        text: The text.
        size: Its font size.
        is_bold: Whether it is bold.
    """
    ems = sum(0.42 if c in _NARROW else 0.86 if c in _WIDE else 0.64 for c in text)
    return ems * size * (1.1 if is_bold else 1.0)


def wrap(text: str, *, size: float, width: float, is_bold: bool = False) -> list[str]:
    """Return a text in lines that are at most `width` wide, where its words permit.

    Args:
        text: The text.
        size: Its font size.
        width: The room for it.
        is_bold: Whether it is bold.
    """
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size=size, is_bold=is_bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
