"""The picture as SVG, which any browser shows and any page can include."""

from __future__ import annotations

from html import escape

from corestream.topo.page import Box, Text, make_page
from corestream.topo.picture import Picture

_FONT = "DejaVu Sans, Verdana, Geneva, sans-serif"


def draw_svg(picture: Picture) -> str:
    """Return a picture as an SVG document.

    Machines of more than 256 cores are folded: runs of cores that are alike become a line.

    Args:
        picture: What to draw.

    Returns:
        The document, which refers to nothing outside itself.

    Example:
        >>> from corestream.topo import read_picture
        >>> print(draw_svg(read_picture()))
        <svg ...</svg>

    Thread-safe; holds the GIL.
    """
    page = make_page(picture)
    width, height = _number(page.width), _number(page.height)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" font-family="{_FONT}">'
    )
    lines = [
        opening,
        f"<title>{escape(page.title, quote=False)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *(_box(mark) if isinstance(mark, Box) else _text(mark) for mark in page.marks),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _box(box: Box) -> str:
    attributes = {
        "x": _number(box.x),
        "y": _number(box.y),
        "width": _number(box.width),
        "height": _number(box.height),
        "rx": _number(box.radius),
        "fill": box.fill,
    }
    if box.edge:
        attributes |= {"stroke": box.edge, "stroke-width": _number(box.edge_width)}
    if box.is_dashed:
        attributes["stroke-dasharray"] = "3 2"
    return f"<rect {_join(attributes)}/>"


def _text(text: Text) -> str:
    attributes = {
        "x": _number(text.x),
        # Not dominant-baseline, which some renderers do not know.
        "y": _number(text.y + 0.36 * text.size),
        "font-size": str(text.size),
        "fill": text.colour,
    }
    if text.is_bold:
        attributes["font-weight"] = "bold"
    return f"<text {_join(attributes)}>{escape(text.text, quote=False)}</text>"


def _join(attributes: dict[str, str]) -> str:
    return " ".join(f'{name}="{value}"' for name, value in attributes.items())


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
