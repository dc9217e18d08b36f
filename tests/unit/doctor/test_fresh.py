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

    def run(program: str, *, products: bool = False) -> FreshRun:
        (tmp_path / "torch.py").write_text(program)
        return run_fresh(products=products, environ=os.environ | {"PYTHONPATH": str(tmp_path)})

    return run


# Says what torch says, up to the first parallel region.
STAND_IN = """
import os, signal, threading
from types import SimpleNamespace as Names

__version__ = "2.13.0"
__config__ = Names(parallel_info=lambda: "ATen/Parallel:")
cpu = Names(get_capabilities=lambda: {"avx2": True, "cpu_name": "x"})
backends = Names(
    cpu=Names(get_cpu_capability=lambda: "AVX2"),
    mkl=Names(is_available=lambda: True),
    mkldnn=Names(is_available=lambda: True),
)
get_num_threads = get_num_interop_threads = lambda: 2

class full:
    def __init__(self, *_): ...
    def __mul__(self, _): return self
    def item(self): return 1.0

def zeros(_):
    REGION
"""


def finding(run: FreshRun, title: str):
    facts = Facts(
        machine=read_machine("/"),
        process=run.process,
        torch=run.torch,
        torch_absence=run.absence,
        torch_died=run.died,
        team=run.team,
        products=run.products,
        products_absence=run.products_absence,
        products_died=run.products_died,
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


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("threading.Event().wait()", "hung for"),
        ("os.kill(os.getpid(), signal.SIGFPE)", "was ended by SIGFPE"),
        ("raise RuntimeError('no such kernel')", "no such kernel"),
    ],
)
def test_a_region_that_does_not_return(run_with, monkeypatch, region, said):
    monkeypatch.setattr(fresh, "STAGE_LIMIT_S", 1.0)
    run = run_with(STAND_IN.replace("REGION", region), products=True)
    assert run.torch.capabilities == {"avx2": True}
    assert finding(run, "versions").level == Level.OK
    assert finding(run, "teams").level == Level.FAIL
    assert said in finding(run, "teams").value
    assert finding(run, "matrix products").level == Level.FAIL
    assert said in finding(run, "matrix products").value


def test_lines_of_others_do_no_harm(run_with):
    run = run_with(
        "print('corestream-doctor is not this')\nprint('x' * 100_000, end='')\nraise ImportError"
    )
    assert run.torch is None
    assert not run.died
