"""The interpreter ends, and errors end where they belong, whatever the streams are doing."""

from __future__ import annotations

import re
import signal

import pytest

from tests.integration.subprograms import run

pytestmark = pytest.mark.needs_build

HANDLED = (
    "exception_in_a_callback",
    "keyboard_interrupt",
    "thread_creation_failure",
    "one_stream_raises",
    "sys_exit_in_a_task",
)


@pytest.fixture(scope="module")
def handled():
    """The cases that catch their error, one after the other in one process, which ends well."""
    finished = run("exit_cases", *HANDLED)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.endswith("main ended\n")
    return finished


def output_of(finished, case) -> list[str]:
    """The lines that `case` printed."""
    parts = re.split(r"^\[(\w+)\]\n", finished.stdout.removesuffix("main ended\n"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[case].splitlines()


def test_exception_in_a_callback_is_logged(handled):
    assert output_of(handled, "exception_in_a_callback") == []
    assert handled.stderr.startswith("a done callback of <corestream.Future")
    assert handled.stderr.endswith("LookupError: the callback's own\n")
    assert handled.stderr.count("Traceback") == 1


def test_keyboard_interrupt_ends_the_wait_and_not_the_task(handled):
    assert output_of(handled, "keyboard_interrupt") == ["interrupted", "1.0"]


def test_thread_creation_failure_leaves_nothing(handled):
    first, second, after = output_of(handled, "thread_creation_failure")
    assert first == "True"
    assert second in ("the second stream failed", "there is no second stream")
    assert after == "2"


def test_an_error_names_its_stream(handled):
    assert output_of(handled, "one_stream_raises") == ["True True", "True"]


def test_sys_exit_in_a_task_is_its_outcome(handled):
    assert output_of(handled, "sys_exit_in_a_task") == ["SystemExit 5", "2"]


@pytest.mark.parametrize(
    ("cases", "lines"),
    [
        # What is queued is cancelled, what runs is waited for.
        (["python_work_at_exit"], ["main ended", "the running task ended"]),
        (["script_work_at_exit"], ["main ended"]),
        (["daemon_waits_at_exit"], ["main ended"]),
        (["submit_at_exit", "streams_never_shut_down"], ["main ended", "refused"]),
    ],
    ids=lambda value: value[0],
)
def test_exit_with_streams_alive(cases, lines):
    finished = run("exit_cases", *cases)
    assert finished.returncode == 0
    assert finished.stdout.splitlines() == [f"[{case}]" for case in cases] + lines
    assert finished.stderr == ""


def test_unhandled_keyboard_interrupt():
    finished = run("exit_cases", "unhandled_keyboard_interrupt")
    assert finished.returncode == -signal.SIGINT
    assert finished.stdout.splitlines() == ["[unhandled_keyboard_interrupt]"]
    assert finished.stderr.endswith("\nKeyboardInterrupt\n")
    assert finished.stderr.count("Traceback") == 1


def test_unhandled_sys_exit_in_a_task():
    finished = run("exit_cases", "unhandled_sys_exit_in_a_task")
    assert finished.returncode == 5
    assert finished.stdout.splitlines() == ["[unhandled_sys_exit_in_a_task]"]
    assert finished.stderr == ""
