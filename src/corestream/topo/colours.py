"""The colours of the pictures, with enough contrast between a spot and its text."""

from __future__ import annotations

from corestream.topo.picture import State

DARK = "#17212b"
LIGHT = "#ffffff"

_STATES: dict[State, str] = {"outside": "#e9ecef", "allowed": "#bcd9f5", "pool": "#1f5f9e"}

# Neighbours differ in hue and in brightness, for those who do not tell hues apart.
_STREAMS = (
    "#2f6db5",
    "#f2a541",
    "#277a4b",
    "#f4c7d9",
    "#7b4fa3",
    "#a8d672",
    "#b3402e",
    "#8fd3e8",
    "#6d4c2f",
    "#e6d94c",
    "#1d7d83",
    "#f08a80",
)


def fill_of(state: State) -> str:
    """Return the colour of a spot.

    Args:
        state: Whose the CPU is; streams beyond the twelfth begin anew.
    """
    return _STREAMS[state % len(_STREAMS)] if isinstance(state, int) else _STATES[state]


def text_on(fill: str) -> str:
    """Return the colour of text on a colour: dark or light, whichever stands out more.

    Args:
        fill: The colour behind, `#rrggbb`.
    """
    return DARK if contrast(fill, DARK) >= contrast(fill, LIGHT) else LIGHT


def text_of(state: State) -> str:
    """Return the colour of the text on a spot.

    Args:
        state: Whose the CPU is.
    """
    return "#56616b" if state == "outside" else text_on(fill_of(state))


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, from 1 to 21, as WCAG 2 defines it.

    Args:
        one: A colour, `#rrggbb`.
        other: Another.
    """
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
