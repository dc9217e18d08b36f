"""The picture in a terminal: boxes of line-drawing characters around coloured CPU ids."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from corestream.topo.cells import Cells
from corestream.topo.colours import fill_of, text_of
from corestream.topo.layout import Area, Frame, Metrics, Patch, Words, lay_out
from corestream.topo.picture import Picture, State
from corestream.topo.tree import boxes_of
from corestream.topo.words import headline, legend, summary

if TYPE_CHECKING:
    from rich.console import Console

FOLD_ABOVE = 96
"""Most cores to show one by one; more do not fit on a screen."""

METRICS = Metrics(
    text_width=len,
    line=1,
    spot=1,
    spot_margin=2,
    is_stacked=False,
    core_margin=0,
    gap=(1, 0),
    padding=(2, 1, 1),
    title_y=0,
    box_gap=(1, 0),
    aspect=8.0,
)

# Corners and edges: upper left, upper right, lower left, lower right, across, down.
_LINES = {"package": "┏┓┗┛━┃", "node": "┌┐└┘─│", "l3": "╭╮╰╯╌╎"}
_EDGE_STYLES = {"package": "bold", "node": "cyan", "l3": "yellow"}


@dataclass(slots=True)
class _Character:
    text: str = " "
    style: str = ""


def draw_terminal(picture: Picture, *, console: Console) -> None:
    """Print a picture.

    Machines of more than 96 cores are folded: runs of cores that are alike become a line. Without
    colours, a letter behind each CPU id says what its colour would.

    Args:
        picture: What to draw.
        console: Where to; its width and colours decide.

    Example:
        >>> import io
        >>> from rich.console import Console
        >>> from corestream.topo import read_picture
        >>> console = Console(file=io.StringIO(), width=80)
        >>> draw_terminal(read_picture(), console=console)
        >>> "CPU budget" in console.file.getvalue()
        True

    Not thread-safe: prints several lines; holds the GIL.
    """
    from rich.text import Text

    has_colours = console.color_system is not None and not console.no_color
    cells = Cells(
        picture,
        is_folded=len(picture.topology.cores) > FOLD_ABOVE,
        mark=(lambda state: "") if has_colours else mark_of,
    )
    area = lay_out(
        boxes_of(picture.topology), cells, metrics=METRICS, max_width=max(console.width, 40)
    )
    console.print(Text(headline(picture), style="bold"))
    for line in _render(area):
        text = Text(no_wrap=True, overflow="ignore")
        for style, run in groupby(line, key=lambda character: character.style):
            text.append("".join(character.text for character in run), style=style)
        text.rstrip()
        console.print(text, crop=False, soft_wrap=True)
    entries = Text()
    for states, meaning in legend(picture):
        for state in states if has_colours else states[:1]:
            sample = "   " if has_colours else f" {mark_of(state)} "
            entries.append(sample, style=_style(state))
        entries.append(f" {meaning}   ")
    entries.rstrip()
    console.print(entries)
    for sentence in summary(picture):
        console.print(Text(sentence, style="dim"))


def mark_of(state: State) -> str:
    """Return what stands behind a CPU id where there are no colours.

    Args:
        state: Whose the CPU is.
    """
    return (
        f"s{state}" if isinstance(state, int) else {"outside": "-", "allowed": "+"}.get(state, "*")
    )


def _style(state: State) -> str:
    return f"{text_of(state)} on {fill_of(state)}"


def _render(area: Area) -> list[list[_Character]]:
    canvas = [[_Character() for _ in range(area.width)] for _ in range(area.height)]

    def write(text: str, *, x: int, y: int, style: str) -> None:
        for offset, character in enumerate(text):
            canvas[y][x + offset] = _Character(character, style)

    for shape in area.shapes:
        if isinstance(shape, Frame):
            corners, style = _LINES[shape.kind], _EDGE_STYLES[shape.kind]
            across = shape.width - 2
            write(corners[0] + corners[4] * across + corners[1], x=shape.x, y=shape.y, style=style)
            bottom = shape.y + shape.height - 1
            write(corners[2] + corners[4] * across + corners[3], x=shape.x, y=bottom, style=style)
            for y in range(shape.y + 1, bottom):
                write(corners[5], x=shape.x, y=y, style=style)
                write(corners[5], x=shape.x + shape.width - 1, y=y, style=style)
        elif isinstance(shape, Words):
            # On the upper edge of its box a title needs room around it.
            text, x = (
                (f" {shape.text} ", shape.x - 1) if shape.role == "title" else (shape.text, shape.x)
            )
            write(text, x=x, y=shape.y, style="bold" if shape.role == "title" else "italic")
        elif isinstance(shape, Patch):
            words = shape.text + shape.note
            text = (
                f" {words}".ljust(shape.width) if shape.is_run else f"{words} ".rjust(shape.width)
            )
            write(text, x=shape.x, y=shape.y, style=_style(shape.state))
    return canvas
