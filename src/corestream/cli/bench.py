"""`corestream bench`: a model as stock torch runs it, and as corestream does."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from corestream.bench.plan import MODES, Options
from corestream.cli.console import fail, failing_on, print_json, progress, say

app = typer.Typer(add_completion=False)

_HELP = (
    "Measure a model: throughput, latency percentiles and memory, stock and corestream.\n\n"
    "MODEL is a .pt2 package, an exported program, a TorchScript file, a file of "
    "LoweredModule.save, or module:callable, a function that makes an nn.Module. Each way to run "
    "it has a process of its own, which stands still while others measure; they take turns, so "
    "that all of them see the same machine. Where the rounds differ more than the ways do, no "
    "verdict is given.\n\n"
    "Exit status: 0 measured; 1 answers differ from stock's, requests or a process failed, or "
    "--at-least was missed; 2 wrong use."
)

_EXAMPLES = (
    "Examples:\n\n"
    "[cyan]corestream bench mymodels:resnet --inputs 1x3x224x224[/]: both modes\n\n"
    "[cyan]corestream bench model.pt2 --inputs 'ids=8x128:int64\\[0,30000)' --mode realtime "
    "--users 1,16 --png bench.png[/]\n\n"
    "[cyan]corestream bench mymodels:resnet --inputs batch.pt --mode offline --also compile "
    "--at-least 1.2[/]: for CI"
)


_Model = Annotated[str, typer.Argument(metavar="MODEL", help="A file, or module:callable.")]
_Inputs = Annotated[
    list[str],
    typer.Option(
        metavar="ITEM",
        help="Of a call: 1x3x224x224:float32, ids=8x128:int64\\[0,30000), once for each "
        "tensor; or a .pt or .npz file; or module:callable.",
    ),
]
_Mode = Annotated[
    str,
    typer.Option(
        help="offline: large batches on all cores; realtime: requests of one item, on streams "
        "of a few cores; both."
    ),
]
_Users = Annotated[str | None, typer.Option(metavar="N,...", help="Users of the closed loops.")]
_Rate = Annotated[
    float | None, typer.Option(metavar="R", help="Requests per second of the open loop.")
]
_Load = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="The same as a share of what stock answers at most; 0: no open loop. "
        "0.7 in realtime mode by default.",
    ),
]
_BatchSize = Annotated[
    int | None, typer.Option(metavar="N", help="Items of a call in offline mode.")
]
_CoresPerStream = Annotated[
    int | None,
    typer.Option(metavar="K", help="Cores of a stream in realtime mode; 4 by default."),
]
_NumStreams = Annotated[int | None, typer.Option(metavar="N", help="Streams.")]
_Also = Annotated[
    str,
    typer.Option(
        metavar="NAME,...",
        help="Others to measure: threads (stock with as many threads as a stream), instances "
        "(processes of stock, pinned), compile (torch.compile).",
    ),
]
_Backend = Annotated[str, typer.Option(help="auto, aotinductor, torchscript or eager.")]
_Dtype = Annotated[
    str | None, typer.Option(help="What the lowered model computes in: bfloat16, auto.")
]
_Tolerance = Annotated[float | None, typer.Option(help="How far answers may be from stock's.")]
_BudgetS = Annotated[float, typer.Option(metavar="S", help="Seconds for all, lowering included.")]
_Rounds = Annotated[int, typer.Option(metavar="N", help="Turns of each at most.")]
_Seed = Annotated[int, typer.Option(help="Of weights, inputs and arrivals.")]
_AtLeast = Annotated[
    float | None,
    typer.Option(metavar="X", help="Fail unless corestream's best throughput is X times stock's."),
]
_Png = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, help="Also draw it; takes matplotlib."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON instead.")]


@app.command("bench", help=_HELP, epilog=_EXAMPLES)
def bench(
    *,
    model: _Model,
    inputs: _Inputs,
    mode: _Mode = "both",
    users: _Users = None,
    rate: _Rate = None,
    load: _Load = None,
    batch_size: _BatchSize = None,
    cores_per_stream: _CoresPerStream = None,
    num_streams: _NumStreams = None,
    also: _Also = "",
    backend: _Backend = "auto",
    dtype: _Dtype = None,
    tolerance: _Tolerance = None,
    budget_s: _BudgetS = 60.0,
    rounds: _Rounds = 7,
    seed: _Seed = 0,
    at_least: _AtLeast = None,
    png: _Png = None,
    json: _Json = False,
) -> None:
    """Parse what was asked, have it measured, print it."""
    options = Options(
        modes=MODES if mode == "both" else tuple(_words(mode)),
        also=tuple(_words(also)),
        users=_numbers(users),
        rate_per_s=rate,
        load=load,
        batch_size=batch_size,
        cores_per_stream=cores_per_stream,
        num_streams=num_streams,
        backend=backend,
        dtype=dtype,
        tolerance=tolerance,
        budget_s=budget_s,
        rounds=rounds,
        seed=seed,
    )
    if png is not None:
        _check_png(png)
    report = _measure(model, inputs, options=options)
    if json:
        print_json(report.to_dict())
    else:
        from rich.console import Console

        from corestream.bench.terminal import print_report

        print_report(report, console=Console())
    if png is not None:
        from corestream.bench.plot import write_chart

        write_chart(report, png)
        say(f"wrote {png}")
    missed = [] if at_least is None else report.missed(at_least)
    for text in missed:
        say(text)
    if report.problems or missed:
        raise typer.Exit(1)


def _measure(model: str, inputs: list[str], *, options: Options) -> Any:
    from corestream.bench.run import bench_model
    from corestream.measure.process import ChildError, MisuseError

    with (
        progress("Measuring", total=options.budget_s) as advance,
        failing_on(ChildError, code=1),
        failing_on(MisuseError, ValueError),
    ):
        return bench_model(model, inputs, options=options, advance=advance)


def _check_png(png: Path) -> None:
    """Ends the command now, and not when everything is measured, if nothing can be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        fail("png must be drawn by matplotlib; got none; pip install 'corestream[plot]'")
    folder = png.absolute().parent
    if not os.access(png if png.exists() else folder, os.W_OK):
        fail(f"png must be a file that can be written; got {str(png)!r}; name another")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        found = tuple(sorted({int(word) for word in _words(text)}))
    except ValueError:
        found = ()
    if not found:
        fail(f"users must be numbers such as 1,4,16; got {text!r}; separate them by commas")
    return found
