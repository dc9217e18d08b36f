"""`corestream topo`: a picture of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from corestream.cli.console import fail, failing_on, print_json, say

app = typer.Typer(add_completion=False)

_HELP = (
    "Draw the machine: packages, NUMA nodes, L3 domains, cores, and which CPUs are ours.\n\n"
    "Allowed CPUs are those that the affinity mask, the cpuset and the kernel leave us. The pool "
    "are those that CPUPool() takes of them within the CPU budget; streams are cut from it as an "
    "executor cuts them."
)

_EXAMPLES = (
    "Examples:\n\n"
    "[cyan]corestream topo --num-streams 4[/]: how four streams would share the pool\n\n"
    "[cyan]corestream topo --cpus 0-7 --svg a.svg --png a.png[/]: eight CPUs, also as files\n\n"
    "[cyan]corestream topo --root DIR[/]: another machine, copied there by "
    "[cyan]python -m corestream.cpu gather DIR[/]"
)


@app.command("topo", help=_HELP, epilog=_EXAMPLES)
def topo(
    *,
    root: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder that stands for / on that machine.")
    ] = Path("/"),
    num_streams: Annotated[
        int | None, typer.Option(metavar="N", help="Show how N streams share the pool.")
    ] = None,
    cpus: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="The pool, such as 0-7; that of CPUPool() by default."),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Also write an SVG.")
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Also write a PNG; takes matplotlib."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the topology, pool and streams as JSON instead.")
    ] = False,
) -> None:
    """Parse what was asked, have it drawn, print it."""
    from corestream.topo.picture import describe_picture, read_picture

    with failing_on():
        picture = read_picture(root, cpus=cpus, num_streams=num_streams)
    if svg is not None:
        from corestream.topo.svg import draw_svg

        with _writing(svg, option="svg"):
            svg.write_text(draw_svg(picture), encoding="utf-8")
    if png is not None:
        from corestream.topo.png import write_png

        with _writing(png, option="png"), failing_on(ImportError):
            write_png(picture, png)
    if json:
        print_json(describe_picture(picture, root=root))
        return
    from rich.console import Console

    from corestream.topo.terminal import draw_terminal

    draw_terminal(picture, console=Console())


@contextmanager
def _writing(path: Path, *, option: str) -> Iterator[None]:
    """Say what was written, or why it could not be."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        fail(f"{option} must be a file that can be written; got {str(path)!r}; {reason}")
    say(f"wrote {path}")
