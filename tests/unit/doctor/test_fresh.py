"""The fresh process: whatever torch does in it, the doctor goes on and says what happened."""

from __future__ import annotations

import os

import pytest

from corestream.doctor import fresh
from corestream.doctor.checks import examine
from corestream.doctor.facts import Facts
from corestream.doctor.finding import Level
from corestream.doctor.fresh import FreshRun, run_fresh
from corestream.doctor.machine_facts import read_machine


@pytest.fixture
def run_with(tmp_path):
    """Runs with a stand-in for torch."""

    def run(program: str, **stages) -> FreshRun:
        (tmp_path / "torch.py").write_text(program)
        return run_fresh(products=False, environ=os.environ | {"PYTHONPATH": str(tmp_path)})

    return run


def finding(run: FreshRun, title: str):
    facts = Facts(
        machine=read_machine("/"),
        process=run.process,
        torch=run.torch,
        torch_absence=run.absence,
        torch_died=run.died,
        team=run.team,
    )
    return next(f for f in examine(facts) if f.title == title)


def test_no_torch_is_a_note(run_with):
    run = run_with("raise ImportError('No module named torch')")
    assert (run.torch, run.died) == (None, False)
    versions = finding(run, "versions")
    assert versions.level == Level.NOTE
    assert "No module named torch" in versions.value


def test_a_killed_import_fails_and_names_the_signal(run_with):
    run = run_with("import os, signal\nos.kill(os.getpid(), signal.SIGILL)")
    assert run.died
    versions = finding(run, "versions")
    assert versions.level == Level.FAIL
    assert "SIGILL" in versions.value


def test_an_error_at_import_is_told(run_with):
    run = run_with("raise RuntimeError('operator torchvision::nms does not exist')")
    assert run.died
    assert "nms does not exist" in finding(run, "versions").value


def test_a_hang_is_told_and_the_process_ended(run_with, monkeypatch):
    monkeypatch.setattr(fresh, "IMPORT_LIMIT_S", 1.5)
    run = run_with("import threading\nthreading.Event().wait()")
    assert run.died
    assert "hung" in finding(run, "versions").value


def test_lines_of_others_do_no_harm(run_with):
    run = run_with(
        "print('corestream-doctor is not this')\nprint('x' * 100_000)\nraise ImportError"
    )
    assert run.torch is None
    assert not run.died
