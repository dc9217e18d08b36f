"""`corestream run`: start a program in instances with cores of their own."""

from __future__ import annotations

import inspect
import os
import shlex
from dataclasses import fields
from typing import Annotated, Any, get_args, get_type_hints

import typer

from corestream.cli.console import failing_on, print_json
from corestream.cpu.budget import CPUBudget, cpu_budget
from corestream.cpu.cpu_set import format_cpu_list
from corestream.cpu.machine import Topology
from corestream.cpu.topology import topology
from corestream.errors import CoresTaken
from corestream.launch.allocator import find_allocator
from corestream.launch.ledger import Lease, open_ledger
from corestream.launch.messages import say
from corestream.launch.options import LaunchOptions
from corestream.launch.plan import LaunchPlan, make_plan
from corestream.launch.process import open_standard_descriptors
from corestream.launch.runner import run_plan
from corestream.launch.supervisor import CANNOT_LAUNCH

_EPILOG = """\
Examples:

[cyan]corestream run serve.py --port 80[/]  one instance on every core

[cyan]corestream run -n 4 --dry-run -- serve.py[/]  what four would get

[cyan]corestream run --latency-mode --log-dir logs -m package.worker[/]

[cyan]corestream run --slice auto -c 4 -- gunicorn app:app[/]  four cores that nobody else took

[cyan]corestream run --wait passive --allocator jemalloc ./program[/]

Exit status: that of the first instance that failed, 128 + n if signal n ended \
it; 2 wrong use; 125 no cores are free, or the launcher failed; 126 and 127 the program cannot be \
executed or found.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

_HELP = """\
Start a program on cores of its own, in one or more instances.

Decides CPUs, masks and what must be in the environment before torch loads; --dry-run prints it. \
A single instance takes the launcher's place; several are watched over: signals go to each, and \
the first that fails ends the others.
"""

_COMMAND = Annotated[
    list[str],
    typer.Argument(
        metavar="PROGRAM",
        help="A .py file, an executable, or with -m a module; then its own arguments.",
        show_default=False,
    ),
]
_FLAGS = {
    "dry_run": Annotated[bool, typer.Option("--dry-run", help="Print the plan; start nothing.")],
    "json": Annotated[bool, typer.Option("--json", help="Print the plan as JSON; start nothing.")],
    "quiet": Annotated[
        bool, typer.Option("--quiet", "-q", help="Do not say what became of your variables.")
    ],
}


def run(*, command: list[str], dry_run: bool, json: bool, quiet: bool, **values: Any) -> None:
    """Plan, then show the plan or execute it."""
    open_standard_descriptors()
    options = LaunchOptions(command=tuple(command), **values)
    machine, budget = topology(), cpu_budget()
    with failing_on(ValueError, TypeError, FileNotFoundError):
        path = find_allocator(options.allocator, environ=os.environ)
        plan = _plan(options, machine=machine, budget=budget, allocator_path=path)
    is_only_shown = dry_run or json
    lease = None
    if options.slice == "auto":
        with failing_on(CoresTaken, ValueError, OSError, code=CANNOT_LAUNCH):
            plan, lease = _claim(
                options, machine=machine, budget=budget, path=path, is_only_shown=is_only_shown
            )
    if json:
        print_json(plan.to_json())
    elif dry_run:
        _print_plan(plan)
    else:
        _start(plan, lease, is_quiet=quiet)


def _plan(
    options: LaunchOptions, *, machine: Topology, budget: CPUBudget, allocator_path: str | None
) -> LaunchPlan:
    return make_plan(
        options,
        topology=machine,
        budget=budget,
        environ=os.environ,
        allocator_path=allocator_path,
    )


def _claim(
    options: LaunchOptions,
    *,
    machine: Topology,
    budget: CPUBudget,
    path: str | None,
    is_only_shown: bool,
) -> tuple[LaunchPlan, Lease | None]:
    """Plan with what others left, and take it, while no one else can."""
    with open_ledger() as ledger:
        left = ledger.remaining(
            budget,
            topology=machine,
            efficient_cores=options.efficient_cores or options.cpus is not None,
        )
        plan = _plan(options, machine=machine, budget=left, allocator_path=path)
        return plan, None if is_only_shown else ledger.claim(plan.cpus, is_shared=True)


def _start(plan: LaunchPlan, lease: Lease | None, *, is_quiet: bool) -> None:
    if not is_quiet:
        for line in plan.notices():
            say(line)
    if lease is not None and plan.in_place:
        lease.keep_across_exec()
    code = run_plan(plan)
    if lease is not None:
        lease.release()
    raise typer.Exit(code)


def _print_plan(plan: LaunchPlan) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("instance", "CPUs", "mask", "NUMA nodes", "memory", "log")
    for instance in plan.instances:
        memory = format_cpu_list(instance.memory_nodes)
        table.add_row(
            str(instance.index),
            f"{format_cpu_list(instance.cpus)} ({len(instance.cpus)})",
            "set" if instance.is_pinned else "not set",
            format_cpu_list(instance.numa_nodes),
            f"of nodes {memory}" if memory else "any",
            Text(instance.log_path or "none"),
        )
    console = Console(soft_wrap=True)
    console.print(table)
    for argv in dict.fromkeys(instance.argv for instance in plan.instances):
        console.print(Text(f"command: {shlex.join(argv)}"))
    for line in _environment_lines(plan):
        console.print(Text(f"environment: {line}"))
    for note in plan.notes:
        console.print(Text(f"note: {note}"))
    how = "takes the launcher's place" if plan.in_place else "watched over"
    console.print(Text(f"{len(plan.instances)} of {plan.num_planned} planned, {how}"))


def _environment_lines(plan: LaunchPlan) -> list[str]:
    """Return what changes and why, with the instances that it concerns if not all."""
    concerned: dict[str, list[int]] = {}
    for instance in plan.instances:
        for change in instance.changes:
            concerned.setdefault(str(change), []).append(instance.index)
    return [
        line
        if len(indices) == len(plan.instances)
        else f"{line}, instance {format_cpu_list(indices)}"
        for line, indices in concerned.items()
    ]


def _parameter(name: str, annotation: Any, *, default: Any) -> inspect.Parameter:
    """Return the parameter that Typer makes an option of, from a field of the options."""
    value_type, offer = get_args(annotation)
    # Of a flag Typer would make a pair, --smt and --no-smt.
    flags = offer.flags or (f"--{name.replace('_', '-')}",)
    option = typer.Option(
        *flags,
        help=offer.help,
        metavar=offer.metavar,
        rich_help_panel=offer.panel,
        show_default=default not in (None, False, True, "default"),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[value_type, option],
    )


def _signature() -> inspect.Signature:
    """Return the signature of the command: its options are declared once, in LaunchOptions."""
    own = [
        inspect.Parameter("command", inspect.Parameter.KEYWORD_ONLY, annotation=_COMMAND),
        *(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation
            )
            for name, annotation in _FLAGS.items()
        ),
    ]
    types = get_type_hints(LaunchOptions, include_extras=True)
    declared = [
        _parameter(field.name, types[field.name], default=field.default)
        for field in fields(LaunchOptions)
        if field.name != "command"
    ]
    return inspect.Signature([*own, *declared])


# Typer reads both.
run.__signature__ = _signature()  # type: ignore[attr-defined]
run.__annotations__ = {
    name: parameter.annotation for name, parameter in _signature().parameters.items()
}
app.command(
    help=_HELP,
    epilog=_EPILOG,
    # What stands behind the program's name belongs to the program.
    context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
)(run)
