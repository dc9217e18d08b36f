"""`corestream doctor` as a program: exit status, JSON, and torch only in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.needs_build

# Ends with an error if the doctor's own process loaded torch.
PROGRAM = """
import sys
from corestream.cli import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules and "numpy" not in sys.modules
sys.exit(code)
"""

# A service: its main thread has a team, and it waits until its standard input is closed.
SERVICE = """
import sys, torch
torch.set_num_threads(2)
torch.rand(512, 512) @ torch.rand(512, 512)
torch.zeros(1 << 20).sigmoid_()
print("ready", flush=True)
sys.stdin.read()
"""


def doctor(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    variables = {n: v for n, v in os.environ.items() if not n.startswith(("OMP_", "MKL_", "GOMP"))}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "doctor", *words],
        env=variables | environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def report(*words: str, code: int = 0, **environ: str) -> dict:
    done = doctor("--json", *words, **environ)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def finding(data: dict, title: str) -> dict:
    return next(f for f in data["findings"] if f["title"] == title)


def test_the_screen_of_this_machine():
    done = doctor(COLUMNS="100")
    assert (done.returncode, done.stderr) == (0, "")
    screen = " ".join(done.stdout.split())
    for line in torch.__config__.parallel_info().splitlines():
        assert " ".join(line.split()) in screen
    for title in ("fp32 through", "fp32 through oneDNN", "bf16", "fp16", "int8"):
        assert title in screen
    assert "not available" not in screen
    assert all(len(line) <= 100 for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("name", "value"),
    [("OMP_PROC_BIND", "close"), ("OMP_PLACES", "cores"), ("GOMP_CPU_AFFINITY", "0-1")],
)
def test_a_collapsed_mask_fails_and_names_the_variable(name, value):
    line = finding(report("--no-probe", code=1, **{name: value}), "affinity variables")
    assert line["level"] == "FAIL"
    assert f"{name}={value} narrowed the main thread" in line["value"]


def test_intels_runtime_narrows_at_its_first_region(libiomp5):
    environ = {"LD_PRELOAD": str(libiomp5), "KMP_AFFINITY": "granularity=fine,compact"}
    data = report("--no-probe", code=1, **environ)
    assert finding(data, "affinity variables")["level"] == "FAIL"
    assert "KMP_AFFINITY" in finding(data, "affinity variables")["value"]
    runtimes = finding(data, "OpenMP runtimes")
    assert runtimes["level"] == "OK"
    assert str(libiomp5) in runtimes["value"]


def test_variables_win_over_one_another_as_said():
    data = report("--no-probe", MKL_NUM_THREADS="1", OMP_NUM_THREADS="2")
    line = finding(data, "intra-op threads")
    assert line["value"] == "1, set by MKL_NUM_THREADS=1"
    assert "OMP_NUM_THREADS=2 lost" in line["explanation"]


def test_warnings_count_when_asked():
    assert report("--no-probe", "--workers", "1000")["level"] == "WARN"
    report("--no-probe", "--workers", "1000", "--strict", code=1)


def test_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('none here')")
    data = report(PYTHONPATH=str(tmp_path))
    assert "none here" in finding(data, "versions")["value"]
    assert data["torch"] is None
    assert finding(data, "allowed CPUs")["level"] == "OK"


def test_a_running_process():
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with service:
        assert service.stdout.readline() == "ready\n"
        data = report("--pid", str(service.pid))
        service.stdin.close()
    assert f"process {service.pid}" in data["subject"]
    assert "libgomp" in finding(data, "OpenMP runtimes")["value"]
    assert "1 idle worker of 'python" in finding(data, "teams")["value"]
    assert finding(data, "fork")["level"] == "WARN"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--pid", "1073741824"], "corestream: process must be the id of a running process"),
        (["--pid", "0"], "corestream: process must be the id of a running process; got 0;"),
        (["--workers", "0"], "corestream: num_workers must be at least 1; got 0;"),
        (["--root", "/no/such"], "corestream: root must be a folder with the text of a machine;"),
        (["--root", "/dev"], "corestream: root must be a folder with the text of a machine;"),
        (["--root", "/proc", "--probe"], "corestream: probe must be False for a copy"),
    ],
)
def test_wrong_use_is_one_line(words, text):
    done = doctor(*words)
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_with_every_output_closed():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "doctor", "--no-probe"],
        preexec_fn=lambda: os.closerange(0, 3),
        timeout=100,
        check=False,
    )
    assert done.returncode == 0


def test_help_has_examples():
    done = doctor("--help")
    assert done.returncode == 0
    assert "corestream doctor --pid 4711" in done.stdout
