"""``python -m benchmarks table``: measures the table, shows it, writes it to docs/results."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.machine import core_ids, describe
from benchmarks.table import render, scaling
from benchmarks.table.chart import draw
from benchmarks.table.contest import QUICK, Effort
from benchmarks.table.entrants import BOTH_DTYPES, BOTH_MODES, CORESTREAM, ENTRANTS, REPO, STOCK
from benchmarks.table.rows import Bench, Row, load_rows
from benchmarks.zoo import MODELS

DOCS = REPO / "docs/results"
RESULTS = DOCS / "rows"
SCALING_MODEL = "ResNet-50"
SCALING_CORES = 16


def _list_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"must be of {', '.join(known)}; got {unknown[0]!r}")
        return names

    return parse


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks table", description=__doc__)
    for option, known in (
        ("models", list(MODELS)),
        ("modes", BOTH_MODES),
        ("dtypes", BOTH_DTYPES),
        ("entrants", list(ENTRANTS)),
    ):
        parser.add_argument(
            f"--{option}", type=_list_of(known), metavar="A,B", help=f"of {', '.join(known)}; all"
        )
    parser.add_argument("--rounds", type=int, help=f"turns of each at most; {Effort().rounds}")
    parser.add_argument(
        "--seconds", type=float, help=f"of a row, about, once loaded; {Effort().budget_s:g}"
    )
    parser.add_argument("--cores", type=int, help="how many to use; all")
    parser.add_argument("--quick", action="store_true", help="only see that everything runs")
    parser.add_argument("--resume", action="store_true", help="leave out rows that are there")
    parser.add_argument("--render", action="store_true", help="measure nothing, only write")
    parser.add_argument(
        "--scaling",
        action="store_true",
        help=f"the scaling curve of {SCALING_MODEL} too; of itself from {SCALING_CORES} cores",
    )
    parser.add_argument(
        "--around",
        type=shlex.split,
        default=(),
        metavar="COMMAND",
        help="run `COMMAND begin` before each round and `COMMAND end` after it: to hold back "
        "what else this machine does",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the rows' files")
    parser.add_argument("--docs", type=Path, help="folder for the pages; docs/results")
    return parser.parse_args(arguments)


def _effort(options: argparse.Namespace) -> Effort:
    effort = QUICK if options.quick else Effort()
    rounds = options.rounds or effort.rounds
    return Effort(
        rounds=rounds,
        least_rounds=min(rounds, effort.least_rounds),
        seconds=effort.seconds,
        budget_s=options.seconds or effort.budget_s,
        around=options.around,
    )


def machine_name(num_cores: int, *, is_quick: bool) -> str:
    """The name of the machine's files: equal machines share a page."""
    machine = describe()
    words = f"{machine['cpu']} {machine['capability']} {num_cores} cores"
    plain = "".join(char if char.isalnum() else " " for char in words.lower())
    return "-".join([*plain.split(), *(["quick"] if is_quick else [])])


def _entrant_names(options: argparse.Namespace, console: Console) -> list[str]:
    """Those that were asked for, else those that are installed; stock is what all are judged by."""
    if options.entrants:
        return list(dict.fromkeys([STOCK, *options.entrants]))
    absent = {name: why for name, entrant in ENTRANTS.items() if (why := entrant.why_absent())}
    for name, why in absent.items():
        console.print(f"{ENTRANTS[name].label}: {why}", markup=False)
    return [name for name in ENTRANTS if name not in absent]


def _rows(options: argparse.Namespace, results: Path) -> list[Row]:
    rows = [
        Row(model, mode, dtype)
        for model in options.models or MODELS
        for mode in options.modes or reversed(BOTH_MODES)
        for dtype in options.dtypes or BOTH_DTYPES
    ]
    if options.resume:
        rows = [row for row in rows if not (results / row.file_name).exists()]
    return rows


def publish(results: Path, docs: Path) -> Path:
    """Writes the page and the picture of a machine."""
    rows, curve = load_rows(results), scaling.load_curve(results)
    docs.mkdir(parents=True, exist_ok=True)
    page, picture = docs / f"{results.name}.md", docs / f"{results.name}.png"
    text = render.markdown(
        rows,
        reasons=render.load_reasons(docs / f"{results.name}.toml"),
        chart=picture.name if draw(rows, picture) else None,
    )
    page.write_text(text + ("\n" + "\n".join(scaling.markdown(curve)) if curve else ""))
    return page


def main(arguments: list[str]) -> None:
    options = _parse(arguments)
    # Without a terminal rich would wrap at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 220)
    cores = core_ids()[: options.cores]
    results = options.results / machine_name(len(cores), is_quick=options.quick)

    def show(text: str) -> None:
        """Tells someone at a terminal what the minutes go into."""
        if sys.stderr.isatty():
            print(text, file=sys.stderr, flush=True)

    if not options.render:
        names = _entrant_names(options, console)
        bench = Bench(
            results,
            entrants={name: ENTRANTS[name] for name in names},
            core_ids=cores,
            effort=_effort(options),
            show=show,
        )
        for row in bench.measure(_rows(options, results)):
            if "entrants" in row:
                render.print_rows([row], console)
        has_many = len(cores) >= SCALING_CORES and CORESTREAM in names and not options.quick
        if options.scaling or has_many:
            scaling.measure_curve(
                results, model=SCALING_MODEL, core_ids=cores, effort=_effort(options), show=show
            )
    rows = load_rows(results)
    if not rows:
        console.print(f"no rows in {results}; leave out --render")
        return
    render.print_rows(rows, console)
    render.print_means(rows, console)
    # Figures that mean little have no place in the documentation.
    docs = options.docs or (options.results if options.quick else DOCS)
    console.print(f"written to {publish(results, docs)}", markup=False, highlight=False)
