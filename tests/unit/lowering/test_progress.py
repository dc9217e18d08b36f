"""The bar: on terminals only, and gone at the end."""

from __future__ import annotations

import io
import sys

import pytest

from corestream.lowering import progress as progress_module
from corestream.lowering.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stderr(monkeypatch):
    """Puts a stream in stderr's place; from the test itself, since pytest captures in between."""

    def replace(stream: io.StringIO, *, quiet_s: float = -1.0) -> io.StringIO:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(progress_module, "_QUIET_S", quiet_s)
        return stream

    return replace


def run_two_steps(callback) -> None:
    bar = Progress(callback, num_steps=2)
    bar.tick()
    for text in ("first", "second"):
        bar.step(text)
        bar.tick()
    bar.close()


def test_a_bar_shows_the_step_and_goes_away(stderr):
    terminal = stderr(Terminal())
    run_two_steps(None)
    assert "[........................] first" in terminal.getvalue()
    assert "[############............] second" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_what_is_over_soon_shows_nothing(stderr):
    terminal = stderr(Terminal(), quiet_s=1e9)
    run_two_steps(None)
    assert terminal.getvalue() == ""


def test_false_is_silence_and_so_is_a_file(stderr):
    terminal = stderr(Terminal())
    run_two_steps(False)
    assert terminal.getvalue() == ""
    file = stderr(io.StringIO())
    run_two_steps(None)
    assert file.getvalue() == ""


def test_a_callback_hears_each_step_once():
    heard = []
    bar = Progress(lambda *step: heard.append(step), num_steps=4)
    for text in ("first", "second"):
        bar.step(text)
        bar.tick()
        bar.tick()
    bar.close()
    assert heard == [("first", 0.0), ("second", 0.25), ("done", 1.0)]
