"""The group of all commands; each one's module is loaded only when that command is used."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from corestream import __version__
from corestream.cli.console import fail, say, warnings_as_lines

PROGRAM = "corestream"

# name -> (module, which has `app: typer.Typer`; the line in the list of commands). Written out, so
# that the list needs none of the modules: some of them load torch.
COMMANDS = {
    "doctor": ("corestream.cli.doctor", "Find what makes models slow on this machine."),
    "topo": ("corestream.cli.topo", "Draw the machine and the CPUs that are ours."),
    "tune": ("corestream.cli.tune", "Find the best streams, threads and batch."),
    "run": ("corestream.cli.run", "Start a program on cores of its own."),
    "bench": ("corestream.cli.bench", "Measure a model, stock and on streams."),
}

# Typer exports the most special of its errors only; all that it raises for wrong use are of the
# next class.
_WrongUse: type[Exception] = typer.BadParameter.__mro__[1]

_COMPLETION_OPTIONS = {"install_completion", "show_completion"}


class _LazyGroup(TyperGroup):
    """Lists commands without loading them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return what the list of commands and the completion of their names ask for."""
        if cmd_name not in COMMANDS:
            return None
        _, summary = COMMANDS[cmd_name]
        stand_in = typer.Typer(add_completion=False)
        stand_in.command(cmd_name, help=summary)(lambda: None)
        return typer.main.get_command(stand_in)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is about to run, or to have its options completed."""
        if args and args[0] in COMMANDS:
            return args[0], _load(args[0]), args[1:]
        # Only raises; the names are put where the suggestion for a misspelt one looks.
        self.commands = {name: self.get_command(ctx, name) for name in COMMANDS}
        return super().resolve_command(ctx, args)


def _load(name: str) -> Any:
    module_name, _ = COMMANDS[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        fail(f"command must be part of this installation; got {name!r}; install corestream anew")
    command = typer.main.get_command(module.app)
    command.name = name
    # They belong to the program as a whole; Typer gives them to every app.
    command.params = [p for p in command.params if p.name not in _COMPLETION_OPTIONS]
    return command


app = typer.Typer(
    name=PROGRAM,
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: [cyan]corestream topo[/]; [cyan]corestream doctor --json[/]; "
    "[cyan]corestream run --help[/]. [cyan]python -m corestream[/] is the same, and prints "
    "what a process runs on when no command follows.",
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Know a machine, and run PyTorch models on its CPUs as fast as it allows.

    Exit status: 0 fine, 1 a problem was found, 2 wrong use, 130 interrupted.
    """
    if context.invoked_subcommand is None:
        context.get_help()  # prints, as Typer draws help with Rich
        raise typer.Exit(2)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; wrong use becomes one line on stderr.

    Args:
        arguments: The words after the program's name; those of the process by default.
    """
    command = typer.main.get_command(app)
    words = None if arguments is None else list(arguments)
    try:
        with warnings_as_lines():
            status = command.main(args=words, prog_name=PROGRAM, standalone_mode=False)
    except _WrongUse as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else PROGRAM
        message = " ".join(str(getattr(error, "format_message", error.__str__)()).split())
        say(f"{message} (see {path} --help)", program=path)
        return 2
    except typer.Abort:
        return 130
    return status if isinstance(status, int) else 0
