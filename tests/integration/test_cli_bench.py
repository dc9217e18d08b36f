"""`corestream bench` as a program: what it measures, what it refuses, and that nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODELS = """
import os, signal, time
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)
    def forward(self, x):
        return {"y": self.linear(x).relu()}

class Other(Net):
    "Answers otherwise in each process, with the same weights."
    def forward(self, x):
        return super().forward(x)["y"] + float(os.getpid() % 1000 + 1)

def random_weights():
    net = Net()
    net.linear.weight.data.fill_(os.getpid())
    return net

def dies():
    os.kill(os.getpid(), signal.SIGKILL)

def script():
    return torch.jit.freeze(torch.jit.trace(nn.Linear(8, 4).eval(), torch.ones(1, 8)))
"""
QUICK = ["--backend", "torchscript", "--budget-s", "1", "--rounds", "5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bench")
    (path / "nets.py").write_text(MODELS)
    return path


def bench(folder: Path, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Runs the command in a folder, and checks that it leaves no process behind."""
    command = [sys.executable, "-m", "corestream", "bench", *arguments]
    marker = f"BENCH_TEST={os.getpid()}-{'-'.join(arguments)[:80]}"
    name, _, value = marker.partition("=")
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        **options,
    )
    assert processes_with(marker) == []
    return done


def processes_with(variable: str) -> list[int]:
    """The processes that have inherited a variable."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
        except OSError:
            continue  # it ended, or is somebody else's
    return found


def test_both_modes_of_a_module(folder, tmp_path):
    png = tmp_path / "bench.png"
    done = bench(folder, "nets:Net", "--inputs", "2x8", *QUICK, "--json", "--png", str(png))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [mode["mode"] for mode in report["modes"]] == ["offline", "realtime"]
    offline, realtime = report["modes"]
    assert (offline["batch_size"], realtime["batch_size"]) == (2, 1)
    for mode in report["modes"]:
        stock, ours = mode["contenders"]
        assert (stock["name"], ours["name"]) == ("stock", "corestream")
        assert ours["lowered"] == "torchscript"
        assert ours["error"] <= ours["error_limit"]
        assert stock["rss_bytes"] > 1 << 20
        for row in mode["rows"]:
            assert row["completed"] > 0
            assert (row["failed"], row["rejected"]) == (0, 0)
            assert 0 < row["latency_ms"]["50"] <= row["latency_ms"]["100"]
        assert all(verdict["text"] for verdict in mode["verdicts"])
    assert realtime["rows"][-1]["load"] == "70 % load"
    assert report["problems"] == []
    assert png.read_bytes().startswith(b"\x89PNG")


def test_every_contender_of_a_script(folder):
    done = bench(
        folder,
        *("nets:script", "--inputs", "1x8", "--mode", "realtime", "--users", "2", "--rate", "50"),
        *("--also", "threads,instances", "--cores-per-stream", "1", "--budget-s", "1"),
    )
    assert done.returncode == 0, done.stderr
    for text in ("a TorchScript module", "2 users", "50 requests/s", "threads", "instances"):
        assert text in done.stdout


def test_other_answers_than_stocks_are_a_failure(folder):
    done = bench(
        folder, "nets:Other", "--inputs", "2x8", "--mode", "realtime", "--load", "0", *QUICK
    )
    assert done.returncode == 1
    assert "problem: realtime: corestream answers otherwise: output differs by" in " ".join(
        done.stdout.split()
    )


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["none.pt2", "--inputs", "2x8"], 2, "model must exist; got 'none.pt2'"),
        (["nets.py", "--inputs", "2x8"], 2, "model must be a file that torch wrote"),
        (["nowhere:f", "--inputs", "2x8"], 2, "there is no module 'nowhere'"),
        (["nets:Net", "--inputs", "2x9"], 2, "inputs must fit the model; got [(1, 9)]"),
        (["nets:dies", "--inputs", "2x8"], 1, "the process of stock died of SIGKILL"),
        (["nets:random_weights", "--inputs", "2x8"], 2, "model must have the same weights"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(folder, arguments, code, complaint):
    done = bench(folder, *arguments, "--mode", "realtime", *QUICK)
    assert done.returncode == code
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert complaint in line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--users", "few"], "users must be numbers such as 1,4,16; got 'few'"),
        (["--mode", "live"], "mode must be one of offline, realtime; got 'live'"),
        (["--also", "ipex"], "also must be one of threads, instances, compile"),
        (["--png", "/nowhere/a.png"], "png must be a file that can be written"),
        (["--rounds", "0"], "rounds must be at least 1"),
    ],
)
def test_wrong_use_is_told_before_anything_runs(folder, arguments, complaint):
    done = bench(folder, "nets:Net", "--inputs", "2x8", *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert complaint in line


def test_help_loads_no_torch(folder):
    program = (
        "import sys; from corestream.cli import main; main(['bench', '--help']); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "corestream bench mymodels:resnet" in done.stdout
