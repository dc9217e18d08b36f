"""How far a tuning is: a bar on a terminal, or a function of the caller's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Callback = Callable[[str, float], object]


@contextmanager
def reporting(progress: Callback | bool | None, *, title: str) -> Iterator[Callback]:
    """What to tell of the course: what is being done, and the share of the time that is gone.

    Args:
        progress: A callback; None or True: a bar on stderr if that is a terminal; False: nothing.
        title: What the bar is called.
    """
    if callable(progress):
        yield progress
        return
    if progress is False or not sys.stderr.isatty():
        yield lambda text, share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0, text="")
        yield lambda text, share: bar.update(task, completed=share, text=text)
