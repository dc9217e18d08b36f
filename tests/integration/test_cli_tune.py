"""`corestream tune`, end to end."""

from __future__ import annotations

import json

import pytest

from corestream.cli import main
from corestream.profiles import load_profile, profiles_folder
from corestream.tuning import TuneResult

MODELS = """
from torch import nn

def small():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))

def shy():
    class Shy(nn.Module):
        def forward(self, x):
            raise RuntimeError("not today")
    return Shy()
"""

QUICK = ["--inputs", "2x16", "--budget-s", "2", "--backends", "torchscript", "--batch-sizes", "1,2"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "tuned_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_a_model_is_tuned_drawn_and_saved(folder, capsys):
    plot = folder / "front.svg"
    assert main(["tune", "tuned_models:small", *QUICK, "--plot", str(plot)]) == 0
    captured = capsys.readouterr()
    lines = [line for line in captured.out.splitlines() if line.strip()]
    assert any("stock" in line for line in lines)
    assert any(line.startswith("throughput: ") for line in lines)
    assert "<svg" in plot.read_text()
    assert captured.err == f"corestream: wrote {plot}\n"
    (saved,) = profiles_folder().iterdir()
    assert load_profile(saved).objective == "throughput"


def test_json_is_all_that_is_printed_and_can_be_read_back(folder, capsys):
    profile = folder / "mine.json"
    options = [*QUICK, "--json", "--objective", "latency", "--profile", str(profile)]
    assert main(["tune", "model", "tuned_models:small", *options]) == 0
    captured = capsys.readouterr()
    result = TuneResult.from_json(captured.out)
    assert result.objective == "latency"
    assert json.loads(captured.out)["line"] == str(result.recommended)
    assert load_profile(profile) == result.profile
    assert not profiles_folder().exists()
    assert captured.err == ""


def test_a_limit_that_nothing_keeps_to_is_exit_status_1(capsys):
    options = [*QUICK, "--no-save", "--objective", "p99<=0.00001 ms"]
    assert main(["tune", "tuned_models:small", *options]) == 1
    assert "nothing met p99<=1e-05 ms" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tuned_models:small"], "Missing option '--inputs'"),
        (["tuned_models:none", "--inputs", "2x16"], "must"),
        (["tuned_models:small", "--inputs", "nonsense"], "must"),
        (["tuned_models:small", "--inputs", "2x16", "--objective", "fast"], "objective must be"),
        (["tuned_models:small", "--inputs", "2x16", "--batch-sizes", "a"], "batch-sizes must be"),
        (["tuned_models:small", "--inputs", "2x16", "--backends", "x"], "backends must be"),
        (["tuned_models:small", "--inputs", "2x16", "--plot", "a.gif"], "path must end in"),
        (["tuned_models:small", "--inputs", "2x16", "--cpus", "x"], "core_ids must"),
        (["tuned_models:shy", "--inputs", "2x16"], "the model must run on example_inputs"),
        (["threads", "tuned_models:small"], "inputs must be given"),
        (["threads", "--inputs", "2x16"], "model must be given"),
        (["threads", "--op", "conv"], "op must be one of"),
        (["threads", "tuned_models:none", "--inputs", "2x16"], "model must"),
    ],
)
def test_wrong_use_is_one_line_and_exit_status_2(arguments, message, capsys):
    assert main(["tune", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert "Traceback" not in captured.err


def test_threads_are_swept_and_drawn(folder, capsys):
    plot = folder / "threads.png"
    options = ["--op", "add", "--size", "64", "--budget-s", "0.1", "--plot", str(plot)]
    assert main(["tune", "threads", *options]) == 0
    out = capsys.readouterr().out
    assert out.startswith("add of 64 × 64, float32\n")
    assert "best: " in out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_threads_as_json(capsys):
    options = ["--inputs", "2x16", "--max-threads", "2", "--budget-s", "0.1", "--json"]
    assert main(["tune", "threads", "tuned_models:small", *options]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [point["num_threads"] for point in values["points"]] == [1, 2]
    assert values["best"] in (1, 2)


@pytest.mark.parametrize("command", [[], ["model"], ["threads"]])
def test_help_has_examples(command, capsys):
    assert main(["tune", *command, "--help"]) == 0
    assert "corestream tune threads --op matmul" in capsys.readouterr().out
