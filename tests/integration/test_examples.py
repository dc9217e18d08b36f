"""Every example runs to its end, in a process of its own, without a warning of ours.

What follows "Prints:" in an example's docstring is what it prints, `...` standing for any text.
"""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
# The demo takes minutes by design; tests/integration tests it on a small scale.
EXAMPLES = [path for path in sorted((REPO / "examples").rglob("*.py")) if "demo" not in path.parts]


def promised_output(source: str) -> str | None:
    """What the docstring of an example says that it prints; None if it says nothing."""
    docstring = ast.get_docstring(ast.parse(source)) or ""
    _, found, promise = docstring.partition("Prints:\n")
    return textwrap.dedent(promise).rstrip() + "\n" if found else None


def is_as_promised(output: str, promise: str) -> bool:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(promise, output, flags)


@pytest.mark.needs_build
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example, tmp_path):
    command = [sys.executable, str(example)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ours = re.compile(r"\bcorestream\b.*Warning")
    assert [line for line in done.stderr.splitlines() if ours.search(line)] == []
    promise = promised_output(example.read_text())
    if promise is not None:
        assert is_as_promised(done.stdout, promise), f"{done.stdout}\ninstead of\n\n{promise}"


def test_broken_promises_are_found():
    promise = promised_output('"""Counts.\n\nPrints:\n    one\n    two ...\n"""\nx = 1\n')
    assert promise == "one\ntwo ...\n"
    assert is_as_promised("one\ntwo 2\n", promise)
    assert not is_as_promised("one\nthree\n", promise)
    assert promised_output('"""Counts."""') is None
