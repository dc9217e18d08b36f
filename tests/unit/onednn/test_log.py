"""oneDNN's log: what a scope shows, and what stands when it is left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from corestream.onednn import VERBOSE_OFF, VERBOSE_ON, VERBOSE_ON_CREATION, cache_counts, verbose


@pytest.fixture
def run_conv():
    conv = torch.nn.Conv2d(16, 16, 3)
    images = torch.randn(16, 16, 8, 8)

    def run() -> None:
        with torch.no_grad():
            conv(images)

    run()
    return run


def logged(capfd) -> set[str]:
    """What oneDNN told of since the last time: "exec", "create"; other lines are not its own."""
    lines = [line for line in capfd.readouterr().out.splitlines() if "onednn_verbose" in line]
    return {kind for kind in ("exec", "create") if any(f",{kind}" in line for line in lines)}


@pytest.mark.parametrize(
    ("level", "expected"),
    [(VERBOSE_OFF, set()), (VERBOSE_ON, {"exec"}), (VERBOSE_ON_CREATION, {"exec", "create"})],
)
def test_levels(level, expected, run_conv, capfd):
    with verbose(level):
        run_conv()
    assert logged(capfd) == expected
    run_conv()
    assert logged(capfd) == set()


def test_nested_scopes_put_back_the_level_around_them(run_conv, capfd):
    with verbose(VERBOSE_ON_CREATION):
        with verbose(VERBOSE_OFF):
            run_conv()
            assert logged(capfd) == set()
            with verbose(VERBOSE_ON):
                run_conv()
            assert logged(capfd) == {"exec"}
            run_conv()
            assert logged(capfd) == set()
        run_conv()
        assert logged(capfd) == {"exec", "create"}
    run_conv()
    assert logged(capfd) == set()


def test_the_level_is_put_back_after_an_exception(run_conv, capfd):
    with pytest.raises(KeyError), verbose(VERBOSE_ON):
        raise KeyError
    run_conv()
    assert logged(capfd) == set()


def test_a_scope_left_by_another_thread_first_leaves_the_later_one(run_conv, capfd):
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with verbose(VERBOSE_OFF):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    with verbose(VERBOSE_ON):
        leave.set()
        thread.join()
        run_conv()
        assert logged(capfd) == {"exec"}
    run_conv()
    assert logged(capfd) == set()


def test_counting_inside_a_scope_prints_what_the_scope_asked_for(run_conv, capfd):
    with verbose(VERBOSE_ON), cache_counts() as counts:
        run_conv()
    assert counts.hits > 0
    assert logged(capfd) == {"exec"}
    with cache_counts() as counts, verbose(VERBOSE_OFF):
        run_conv()
    assert counts.hits > 0
    assert logged(capfd) == set()


@pytest.mark.parametrize("level", [3, -1, True, "1", None])
def test_other_levels_are_refused(level, run_conv, capfd):
    with pytest.raises(ValueError, match="level must be 0, 1 or 2; got"), verbose(level):
        pass
    run_conv()
    assert logged(capfd) == set()


PROGRAM = """
import torch
from corestream.onednn import verbose
conv = torch.nn.Conv2d(16, 16, 3)
try:
    with verbose(0):
        conv(torch.ones(16, 16, 8, 8))
        print("inside", flush=True)
except ValueError as error:
    print(error)
conv(torch.ones(16, 16, 8, 8))
"""


def run_with(level: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "ONEDNN_VERBOSE": level},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stdout


def test_the_level_of_the_environment_is_put_back():
    before, after = run_with("1").split("inside\n")
    assert ",exec," not in before
    assert ",exec," in after


def test_a_level_that_torch_could_not_put_back_is_refused():
    assert "ONEDNN_VERBOSE must be 0, 1, 2 or unset" in run_with("profile_exec")
