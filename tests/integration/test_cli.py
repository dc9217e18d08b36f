"""The corestream command in processes of its own: what it loads, completion, python -m."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib

import pytest

from corestream.cli import app
from tests.api.source_tree import REPO

PROGRAM = [sys.executable, "-m", "corestream"]


def run(*arguments, env=None, command=PROGRAM):
    return subprocess.run(
        [*command, *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def shell(tmp_path):
    """Environment of a user with an empty home folder and `corestream` on the path."""
    program = tmp_path / "bin" / "corestream"
    program.parent.mkdir()
    main = "import sys; from corestream.cli import main; sys.exit(main())"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{main}' \"$@\"\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {
        "HOME": str(tmp_path),
        "PATH": path,
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }


def test_the_installed_script_is_this_main():
    scripts = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"corestream": "corestream.cli:main"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["topo"], ["topo", "--help"], ["tune", "--nope"]]
)
def test_python_m_is_the_same_program(arguments):
    script = "import sys; from corestream.cli import main; sys.exit(main())"
    one, other = run(*arguments), run(*arguments, command=[sys.executable, "-c", script])
    assert (one.returncode, one.stdout, one.stderr) == (
        other.returncode,
        other.stdout,
        other.stderr,
    )


LOADED = """
import sys
from corestream.cli import main
assert main(sys.argv[1:]) == 0
wanted = {"torch", "numpy", "matplotlib", "optuna"}
print("loaded:", *sorted(wanted & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["topo"],
        ["topo", "--num-streams", "1", "--json"],
        ["topo", "--svg", os.devnull],
        ["doctor", "--help"],
        ["tune", "--help"],
        ["run", "--help"],
        ["bench", "--help"],
    ],
    ids=" ".join,
)
def test_what_needs_no_torch_loads_none(arguments):
    done = run(*arguments, command=[sys.executable, "-c", LOADED])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_bash_completes_commands_and_options(shell):
    shown = run("--show-completion", "bash", env=shell, command=["corestream"])
    assert shown.returncode == 0, shown.stderr
    script = f"""
{shown.stdout}
complete_words() {{
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
    _corestream_completion corestream
    echo "${{COMPREPLY[*]}}" | tr '\\n' ' '; echo
}}
complete_words corestream ""
complete_words corestream t
complete_words corestream topo --num
"""
    done = run("-c", script, env=shell, command=["bash", "--norc"])
    everything, of_t, of_option = done.stdout.splitlines()
    assert everything.split() == list(app.COMMANDS)
    assert of_t.split() == ["topo", "tune"]
    assert of_option.split() == ["--num-streams"]


def test_completion_installs_itself(shell, tmp_path):
    done = run("--install-completion", "bash", env=shell, command=["corestream"])
    assert done.returncode == 0, done.stderr
    installed = tmp_path / ".bash_completions" / "corestream.sh"
    assert str(installed) in (tmp_path / ".bashrc").read_text()
    assert "complete -o default -F _corestream_completion corestream" in installed.read_text()


@pytest.mark.parametrize("name", ["zsh", "fish"])
def test_other_shells_have_completion(shell, name):
    done = run("--show-completion", name, env=shell, command=["corestream"])
    assert done.returncode == 0
    assert "_CORESTREAM_COMPLETE=complete_" + name in done.stdout


@pytest.mark.parametrize("arguments", ["", "topo --json"])
def test_a_closed_pipe_is_no_traceback(arguments):
    command = f"{sys.executable} -m corestream {arguments} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=100, check=False)
    assert done.stderr == b""
