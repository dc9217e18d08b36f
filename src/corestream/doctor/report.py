"""The screen: one line a finding, and under the ones that are not OK why and what to do."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from corestream.doctor.finding import Finding, Level

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from corestream.doctor.diagnosis import Diagnosis

WIDTH = 100

STYLES = {
    Level.OK: "green",
    Level.NOTE: "cyan",
    Level.WARN: "bold yellow",
    Level.FAIL: "bold red",
}


def render(diagnosis: Diagnosis, *, width: int = WIDTH, explain: bool = False) -> str:
    """Return the screen as plain text.

    Args:
        diagnosis: What was found.
        width: Columns.
        explain: Explain the lines that are OK, too.
    """
    from rich.console import Console

    target = io.StringIO()
    show(diagnosis, Console(file=target, width=width, color_system=None), explain=explain)
    return "\n".join(line.rstrip() for line in target.getvalue().splitlines()) + "\n"


def show(diagnosis: Diagnosis, console: Console, *, explain: bool = False) -> None:
    """Print the screen.

    Args:
        diagnosis: What was found.
        console: Where to.
        explain: Explain the lines that are OK, too.
    """
    from rich.table import Table
    from rich.text import Text

    console.print(Text(f"corestream doctor: {diagnosis.subject}", style="bold"))
    table = Table.grid(padding=(0, 1))
    table.add_column(width=4)
    table.add_column(width=_title_width(diagnosis), overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    group = None
    for finding in diagnosis.findings:
        if finding.group != group:
            group = finding.group
            table.add_row("", Text(group, style="bold dim"), "")
        table.add_row(
            Text(finding.level.name, style=STYLES[finding.level]),
            finding.title,
            _body(finding, explain=explain),
        )
    console.print(table)
    console.print(Text(summary(diagnosis), style=STYLES[diagnosis.level]))


def _title_width(diagnosis: Diagnosis) -> int:
    return max((len(finding.title) for finding in diagnosis.findings), default=0)


def _body(finding: Finding, *, explain: bool) -> Text:
    from rich.text import Text

    body = Text(finding.value)
    if finding.explanation and (explain or finding.level > Level.OK):
        body.append(f"\n{finding.explanation}", style="dim")
    if finding.fix:
        body.append(f"\n→ {finding.fix}", style="italic")
    return body


def summary(diagnosis: Diagnosis) -> str:
    """Return the last line: how many of each level.

    Args:
        diagnosis: What was found.
    """
    counts = [f"{diagnosis.count(level)} {level.name}" for level in sorted(Level, reverse=True)]
    return ", ".join(counts)
