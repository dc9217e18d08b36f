"""The group of commands: what it lists, loads and refuses."""

from __future__ import annotations

import sys
import types
import warnings

import pytest
import typer

from corestream.cli import app, console, main
from corestream.errors import CorestreamWarning

COMPLETED_SUMMARY = 45  # Typer cuts a command's summary to this for the completion of zsh and fish


@pytest.fixture
def planted(monkeypatch):
    """Makes a function the command `topo`, in a module that does not exist otherwise."""

    def plant(function):
        module = types.ModuleType("planted_command")
        module.app = typer.Typer()
        module.app.command()(function)
        monkeypatch.setitem(sys.modules, "planted_command", module)
        monkeypatch.setitem(app.COMMANDS, "topo", ("planted_command", "Planted."))

    return plant


def test_help_lists_every_command_without_its_module(monkeypatch, capsys):
    for name in app.COMMANDS:
        monkeypatch.setitem(app.COMMANDS, name, (f"no_such_module.{name}", f"About {name}."))
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown and f"About {name}." in shown for name in app.COMMANDS)


def test_summaries_fit_into_the_completion():
    for _, summary in app.COMMANDS.values():
        assert len(summary) < COMPLETED_SUMMARY


def test_no_command_prints_help_and_fails(capsys):
    assert main([]) == 2
    assert "Usage: corestream" in capsys.readouterr().out


def test_missing_module_is_told_in_a_line(monkeypatch, capsys):
    monkeypatch.setitem(app.COMMANDS, "topo", ("corestream.cli.no_such_module", "Nothing."))
    assert main(["topo"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "corestream: command must be part of this installation; got 'topo'; "
        "install corestream anew\n"
    )


def test_module_that_imports_something_missing_is_not_taken_for_missing(
    monkeypatch, tmp_path, capsys
):
    (tmp_path / "broken_command.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(app.COMMANDS, "topo", ("broken_command", "Broken."))
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        main(["topo"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["topoo"], "corestream: No such command 'topoo'. Did you mean 'topo'? (see "),
        (["--nope"], "corestream: No such option: --nope (see corestream --help)"),
        (
            ["topo", "--nope"],
            "corestream topo: No such option: --nope (see corestream topo --help)",
        ),
        (["topo", "--num-streams", "two"], "corestream topo: Invalid value for '--num-streams': "),
        (["topo", "extra"], "corestream topo: Got unexpected extra argument"),
    ],
)
def test_wrong_use_is_one_line(arguments, line, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1


def test_version(capsys):
    from corestream import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"corestream {__version__}\n"


@pytest.mark.parametrize("code", [0, 1, 2, 7])
def test_exit_status_is_the_commands(planted, code):
    def leave() -> None:
        raise typer.Exit(code)

    planted(leave)
    assert main(["topo"]) == code


def test_interrupt_is_130(planted):
    def interrupted() -> None:
        raise KeyboardInterrupt

    planted(interrupted)
    assert main(["topo"]) == 130


def test_an_error_of_ours_keeps_its_traceback(planted):
    def broken() -> None:
        raise ValueError("a bug")

    planted(broken)
    with pytest.raises(ValueError, match="a bug"):
        main(["topo"])


def test_fail_and_failing_on(planted, capsys):
    def refuse() -> None:
        with console.failing_on(), console.failing_on(OSError, code=3):
            raise ValueError("cpus must be allowed; got 7; name others")

    planted(refuse)
    assert main(["topo"]) == 2
    assert capsys.readouterr().err == "corestream: cpus must be allowed; got 7; name others\n"


def test_warnings_are_lines_on_stderr(planted, capsys):
    def warn() -> None:
        warnings.simplefilter("always")
        warnings.warn("CPU 9 is dropped", CorestreamWarning, stacklevel=1)
        console.print_json({"cpus": "0-3", "µ": [1]})

    planted(warn)
    before = warnings.showwarning
    assert main(["topo"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "corestream: warning: CPU 9 is dropped\n"
    assert captured.out == '{\n  "cpus": "0-3",\n  "µ": [\n    1\n  ]\n}\n'
    assert warnings.showwarning is before


def test_commands_get_no_completion_options_of_their_own(planted, capsys):
    planted(lambda: None)
    assert main(["topo", "--help"]) == 0
    assert "completion" not in capsys.readouterr().out
    assert main(["topo", "--show-completion"]) == 2


def test_progress_is_silent_without_a_terminal(capsys):
    with console.progress("measuring", total=3) as advance:
        advance(1, "first")
        advance(3, "last")
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_stays_off_standard_output(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress("measuring", total=3) as advance:
        advance(3, "streams=2 [bold]")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "measuring" in captured.err
    assert "streams=2 [bold]" in captured.err
