"""Pictures of a machine: in the terminal, as SVG, as PNG. Never loads torch.

`read_picture` finds out what to show: the machine, which of its CPUs are ours, and how streams
would share them; `draw_terminal`, `draw_svg` and `write_png` show it.
"""

from __future__ import annotations

from corestream.topo.picture import Picture, describe_picture, read_picture
from corestream.topo.png import write_png
from corestream.topo.svg import draw_svg
from corestream.topo.terminal import draw_terminal

__all__ = [
    "Picture",
    "describe_picture",
    "draw_svg",
    "draw_terminal",
    "read_picture",
    "write_png",
]
