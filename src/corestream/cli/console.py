"""What every command prints with: JSON, complaints, warnings, progress."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

import typer

Advance = Callable[[float, str], None]
"""Takes how much of the total is done by now, and what is being done."""


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output, the only thing that `--json` prints there.

    Args:
        value: What `json.dumps` takes.
    """
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say(message: str, *, program: str = "corestream") -> None:
    """Print one line on standard error, where it does not get between the results.

    Args:
        message: The line.
        program: Who says it.
    """
    typer.echo(f"{program}: {message}", err=True)


def fail(message: str, *, code: int = 2) -> NoReturn:
    """End the command with one line on standard error.

    Args:
        message: `<parameter> must be <constraint>; got <value>; <what to do>`.
        code: The exit status: 1 for a problem that was found, 2 for wrong use.
    """
    say(message)
    raise typer.Exit(code)


@contextmanager
def failing_on(*errors: type[Exception], code: int = 2) -> Iterator[None]:
    """Turn errors that speak of what the user asked for into one line on standard error.

    Put it around the calls that check arguments and nothing else: an error of our own must keep
    its traceback.

    Args:
        errors: The classes; ValueError and TypeError by default.
        code: The exit status.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, errors or (ValueError, TypeError)):
            raise
        fail(str(error), code=code)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print warnings as one line each, without the line of our source that issued them."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def progress(title: str, *, total: float) -> Iterator[Advance]:
    """Show a bar on standard error while the block runs, if that is a terminal.

    For what may take more than two seconds. The bar goes away when the block ends.

    Args:
        title: What is going on.
        total: How much there is to do, in any unit: steps, seconds.

    Yields:
        A function to call with how much is done by now and what is being done.
    """
    if sys.stderr is None or not sys.stderr.isatty():  # None: closed as Python started
        yield lambda done, text: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, text="")
        yield lambda done, text: bar.update(task, completed=done, text=escape(text))
