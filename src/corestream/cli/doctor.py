"""`corestream doctor`: what slows models down here, and the fix."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from corestream.cli.console import failing_on, print_json, progress

EPILOG = """Examples:

[cyan]corestream doctor[/]: a fresh process that imports torch under this environment;

[cyan]corestream doctor --pid 4711[/]: a running service;

[cyan]corestream doctor --workers 4[/]: four such processes side by side;

[cyan]corestream doctor --no-probe --json > doctor.json[/]: for a bug report;

[cyan]corestream doctor --strict --no-probe && exec python serve.py[/]: in an init container.

Exit status: 0 nothing is broken (warnings are printed), 1 something is, or with [bold]--strict[/] \
something is warned of, 2 wrong use."""

# A fresh process ends after this on the machines that we know; the bar needs some total.
_EXPECTED_S = 5.0
_STAGES = {"before": 0.5, "torch": 3.0, "team": 3.2, "absent": 5.0, "products": 5.0}

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(epilog=EPILOG)
def doctor(
    *,
    pid: Annotated[
        int | None, typer.Option("--pid", metavar="ID", help="Look at this running process.")
    ] = None,
    probe: Annotated[
        bool | None,
        typer.Option(
            "--probe/--no-probe",
            help="Time a matrix product in each dtype, in a process of its own "
            "(by default unless --pid or --root are given).",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="How many such processes will share the CPUs.")
    ] = None,
    root: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="A copy of another machine, made by `python -m corestream.cpu gather DIR`.",
        ),
    ] = Path("/"),
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on a warning too.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Explain the lines that are OK, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for what makes models slow here: one line each, with the fix."""
    from rich.console import Console

    from corestream.doctor.api import Process, diagnose
    from corestream.doctor.report import WIDTH, show

    process: Process = pid if pid is not None else "fresh" if root == Path("/") else "own"
    start = time.monotonic()
    with progress("Looking", total=_EXPECTED_S) as advance, failing_on(ValueError):
        diagnosis = diagnose(
            root,
            process=process,
            probe=process == "fresh" if probe is None else probe,
            num_workers=workers,
            on_stage=lambda stage: advance(
                max(_STAGES.get(stage, 0.0), min(time.monotonic() - start, _EXPECTED_S)), stage
            ),
        )
    if as_json:
        print_json(diagnosis.to_dict())
    else:
        is_terminal = sys.stdout is not None and sys.stdout.isatty()
        has_width = is_terminal or "COLUMNS" in os.environ
        show(diagnosis, Console(width=None if has_width else WIDTH), explain=explain)
    code = diagnosis.exit_code(strict=strict)
    if code:
        raise typer.Exit(code)
