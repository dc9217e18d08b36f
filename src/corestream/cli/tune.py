"""`corestream tune`: the best setting for a model, or the best number of threads, by measuring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from corestream.cli.console import fail, failing_on, print_json, progress, say

_DEFAULT = "model"


class _DefaultGroup(TyperGroup):
    """`corestream tune MODEL` is `corestream tune model MODEL`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


_HELP = (
    "Find the best streams, threads and batch by measuring.\n\n"
    "[cyan]corestream tune MODEL[/] is short for [cyan]corestream tune model MODEL[/], whose "
    "[cyan]--help[/] has the options."
)

_EXAMPLES = (
    "Examples:\n\n"
    "[cyan]corestream tune mymodels:resnet --inputs 1x3x224x224[/]: most items per second\n\n"
    "[cyan]corestream tune mymodels:bert --inputs 'ids=1x128:int64\\[0,30000)' "
    "--objective 'p99<=20 ms' --plot front.png[/]\n\n"
    "[cyan]corestream tune threads --op matmul --size 1024 --plot threads.png[/]"
)

app = typer.Typer(add_completion=False, cls=_DefaultGroup, help=_HELP, epilog=_EXAMPLES)

_MODEL_HELP = (
    "Find the best streams, team size, batch and backend for a model.\n\n"
    "MODEL is module:callable, a function that makes an nn.Module; or a .pt2 package, a "
    "TorchScript file or a file of LoweredModule.save, which are taken as they are. Settings are "
    "looked at from coarse to fine; the best of them and stock PyTorch, unpinned, are then "
    "measured in turns, and streams are recommended only where they win beyond noise. What is "
    "found is saved as a profile, which MultiStreamModule(..., num_streams='AUTO') uses here.\n\n"
    "Exit status: 0 measured; 1 nothing kept to the objective's limit, or no streams could run; "
    "2 wrong use."
)

_Inputs = Annotated[
    list[str],
    typer.Option(
        metavar="ITEM",
        help="Of a call: 1x3x224x224:float32, ids=8x128:int64\\[0,30000), once for each tensor; "
        "or a .pt or .npz file; or module:callable.",
    ),
]
_Objective = Annotated[
    str, typer.Option(metavar="GOAL", help="throughput, latency, or a limit such as 'p99<=20 ms'.")
]
_Cpus = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="The cores, such as 0-7; those of CPUPool() by default."),
]
_BudgetS = Annotated[float, typer.Option(metavar="S", help="Seconds for everything.")]
_BatchSizes = Annotated[
    str | None, typer.Option(metavar="N,...", help="Items that a stream may run at a time.")
]
_Backends = Annotated[
    str | None,
    typer.Option(metavar="NAME,...", help="Of torchscript, eager, aotinductor; all by default."),
]
_Users = Annotated[
    int | None,
    typer.Option(metavar="N", help="Users who wait for their answer; one per stream by default."),
]
_Rate = Annotated[
    float | None,
    typer.Option(metavar="R", help="Requests arrive at random at R per second instead."),
]
_Seed = Annotated[int, typer.Option(help="Of weights, inputs, search and arrivals.")]
_Save = Annotated[bool, typer.Option("--save/--no-save", help="Save the profile for AUTO.")]
_Profile = Annotated[
    Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Save it there instead.")
]
_Plot = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, help="Also draw it, .png or .svg."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead.")]


@app.command("model", help=_MODEL_HELP, epilog=_EXAMPLES)
def tune_model(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A file, or module:callable.")],
    inputs: _Inputs,
    objective: _Objective = "throughput",
    cpus: _Cpus = None,
    budget_s: _BudgetS = 60.0,
    batch_sizes: _BatchSizes = None,
    backends: _Backends = None,
    users: _Users = None,
    rate: _Rate = None,
    seed: _Seed = 0,
    save: _Save = True,
    profile: _Profile = None,
    plot: _Plot = None,
    json: _Json = False,
) -> None:
    """Parse what was asked, have it measured, print it."""
    _check_plot(plot)
    from corestream.cpu.pool import CPUPool
    from corestream.errors import LoweringError
    from corestream.lowering.named_model import load_model
    from corestream.measure.input_text import load_inputs
    from corestream.measure.named import importable_from_here
    from corestream.tuning.api import tune

    with importable_from_here(), failing_on(ValueError, TypeError, FileNotFoundError):
        named, example = load_model(model, seed=seed), load_inputs(inputs, seed=seed)
        pool = None if cpus is None else CPUPool(cpus)
    names = None if backends is None or not named.is_lowerable else _words(backends)
    with (
        progress("tune", total=1.0) as advance,
        failing_on(ValueError, TypeError, LoweringError),
    ):
        result = tune(
            named.source,
            example,
            objective=objective,
            cpu_pool=pool,
            budget_s=budget_s,
            batch_sizes=None if batch_sizes is None else _numbers(batch_sizes),
            backends=names,
            num_users=users,
            rate_per_s=rate,
            seed=seed,
            save=profile or save,
            progress=lambda text, share: advance(share, text),
        )
    if json:
        print_json(result.to_dict())
    else:
        from rich.console import Console

        Console().print(result)
    if plot is not None:
        _draw(result, plot)
    if result.streams is None or not result.is_met:
        raise typer.Exit(1)


_THREADS_HELP = (
    "Time a model, or a matrix product, with 1 to twice as many intra-op threads as CPUs.\n\n"
    "Thread counts are changed in a process of its own, unpinned; they take turns, so that a "
    "disturbance meets all of them. The best number is marked, and where oversubscription begins."
)


@app.command("threads", help=_THREADS_HELP, epilog=_EXAMPLES)
def tune_threads(
    *,
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A file, or module:callable.")
    ] = None,
    inputs: _Inputs = [],  # noqa: B006 (Typer's way to say: none)
    op: Annotated[
        str, typer.Option(help="Without MODEL: matmul, add, sigmoid or softmax.")
    ] = "matmul",
    size: Annotated[int, typer.Option(metavar="N", help="Rows of its square matrices.")] = 1024,
    max_threads: Annotated[
        int | None, typer.Option(metavar="N", help="Twice the CPUs by default.")
    ] = None,
    budget_s: _BudgetS = 30.0,
    plot: _Plot = None,
    json: _Json = False,
) -> None:
    """Parse what was asked, have it measured, print it."""
    _check_plot(plot)
    from corestream.measure.process import ChildError, MisuseError
    from corestream.tuning.threads import sweep_threads

    if model is not None and not inputs:
        fail("inputs must be given for a model; got none; add --inputs 1x3x224x224, say")
    if model is None and inputs:
        fail(f"model must be given for inputs; got none for {inputs}; name it first")
    with (
        progress("tune threads", total=1.0) as advance,
        failing_on(ChildError, code=1),
        failing_on(ValueError, TypeError, MisuseError),
    ):
        sweep = sweep_threads(
            model,
            inputs,
            op=op,
            size=size,
            max_threads=max_threads,
            budget_s=budget_s,
            progress=lambda text, share: advance(share, text),
        )
    if json:
        print_json(sweep.to_dict())
    else:
        typer.echo(str(sweep))
    if plot is not None:
        _draw(sweep, plot)


def _check_plot(path: Path | None) -> None:
    """Before anything is measured."""
    if path is None:
        return
    from corestream.tuning.plot import check_ending, check_matplotlib

    with failing_on(ValueError, ModuleNotFoundError):
        check_ending(path)
        check_matplotlib()


def _draw(drawable: Any, path: Path) -> None:
    try:
        drawable.plot(path)
    except OSError as error:
        reason = error.strerror or str(error)
        fail(f"plot must be a file that can be written; got {str(path)!r}; {reason}")
    say(f"wrote {path}")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in _words(text)]
    except ValueError:
        fail(f"batch-sizes must be numbers such as 1,8,32; got {text!r}; leave it out for all")
