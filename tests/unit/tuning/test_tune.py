"""`tune` on real streams with a small model: it measures what was asked and leaves no trace."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import corestream
from corestream import CPUPool, MultiStreamModule
from corestream.errors import LoweringError
from corestream.profiles import load_profile, profiles_folder
from corestream.tuning import TuneResult, tune
from tests.unit.runtime.stream_cases import scripted


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def unhurried(monkeypatch) -> None:
    """A clock on which a busy machine does not run out of time, and short measurements."""
    slow = SimpleNamespace(monotonic=lambda: time.monotonic() / 10)
    monkeypatch.setattr("corestream.tuning.api.time", slow)
    monkeypatch.setattr("corestream.tuning.tuner._SHORTEST_S", 0.01)
    monkeypatch.setattr("corestream.tuning.tuner._LONGEST_S", 0.01)
    monkeypatch.setattr("corestream.tuning.finals.MOST_ROUNDS", 3)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8)).eval()


def quick(model: object, inputs: object, **options: object) -> TuneResult:
    given = {"budget_s": 1.0, "backends": ["torchscript"], "save": False, "progress": False}
    return tune(model, inputs, **{**given, **options})


def test_throughput_with_stock_as_a_row_and_no_trace(model):
    threads, mask = torch.get_num_threads(), os.sched_getaffinity(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told: list[tuple[str, float]] = []
    result = quick(
        model,
        torch.rand(4, 32),
        batch_sizes=[1, 4],
        progress=lambda text, share: told.append((text, share)),
    )
    kinds = Counter(one.setting.backend for one in result.measured)
    assert kinds["stock"] >= 1
    assert kinds["torchscript"] >= 1
    assert result.streams is not None
    assert {one.setting.batch_size for one in result.measured} <= {1, 4}
    assert any(text.startswith("comparing in turns") for text, _ in told)
    assert not profiles_folder().exists()
    assert (torch.get_num_threads(), os.sched_getaffinity(0)) == (threads, mask)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert TuneResult.from_json(result.to_json()) == result


@pytest.mark.filterwarnings("ignore:streams should be faster")  # on a busy machine they are not
def test_what_is_saved_is_what_auto_uses(model):
    result = quick(model, torch.rand(4, 32), batch_sizes=[4], save=True)
    assert any(note.startswith("the profile is ") for note in result.notes)
    lowered = corestream.lower(model, torch.rand(4, 32), backend="torchscript")
    streams = MultiStreamModule(lowered, "AUTO")
    try:
        assert streams.auto.source == "profile"
        assert streams.get_stream_number() == result.streams.num_streams
    finally:
        streams.executor.shutdown()


def test_a_profile_can_go_elsewhere(model, tmp_path):
    path = tmp_path / "mine.json"
    result = quick(model, torch.rand(4, 32), batch_sizes=[4], save=path)
    assert load_profile(path) == result.profile
    assert not profiles_folder().exists()
    with pytest.raises(OSError, match=r"exists|directory"):
        quick(model, torch.rand(4, 32), batch_sizes=[4], save=path / "below" / "a.json")


def test_latency_splits_the_example_over_the_streams(model):
    result = quick(model, torch.rand(2, 32), objective="latency")
    for one in result.measured:
        streams = 1 if one.setting.is_stock else one.setting.num_streams
        assert one.setting.batch_size == -(-2 // streams)


def test_requests_at_a_rate(model):
    result = quick(model, torch.rand(1, 32), objective="p99<=1000 ms", rate_per_s=200.0)
    assert result.load == "open loop of 200 requests/s"
    assert {one.setting.batch_size for one in result.measured} == {1}


def test_users_who_wait(model):
    result = quick(model, torch.rand(1, 32), num_users=3, batch_sizes=[1])
    assert result.load == "closed loop of 3 users"


def test_what_is_lowered_already_is_taken_as_it_is(model):
    script = scripted(nn.ReLU())
    result = quick(script, torch.rand(4, 3), backends=None, batch_sizes=[2])
    assert {one.setting.backend for one in result.measured} == {"stock", "given"}
    with pytest.raises(ValueError, match="backends must be left out"):
        quick(script, torch.rand(4, 3))


def test_inputs_without_a_batch_have_one_size():
    class Sum(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a.sum() + b.sum()

    result = quick(Sum().eval(), (torch.rand(3), torch.rand(4)))
    assert {one.setting.batch_size for one in result.measured} == {1}


def test_a_pool_of_one_core():
    result = quick(nn.ReLU().eval(), torch.rand(4, 3), cpu_pool=CPUPool([min(CPUPool().core_ids)]))
    assert {one.setting.num_cores for one in result.measured if not one.setting.is_stock} == {1}
    assert result.key.cpus == str(min(CPUPool().core_ids))


def test_a_backend_that_cannot_is_named_and_others_go_on(model):
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    result = quick(
        Branches().eval(), torch.rand(2, 3), batch_sizes=[2], backends=["torchscript", "eager"]
    )
    assert any("torchscript" in note and "wrong" in note for note in result.notes)
    assert result.streams.backend == "eager"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "speed"}, "objective must be"),
        ({"budget_s": 0}, "budget_s must be above 0"),
        ({"budget_s": float("inf")}, "budget_s must be above 0"),
        ({"batch_sizes": []}, "batch_sizes must be sizes"),
        ({"batch_sizes": [0]}, "batch_sizes must be an int of at least 1"),
        ({"backends": ["onnx"]}, "backends must be some of"),
        ({"backends": []}, "backends must be some of"),
        ({"num_users": 0}, "num_users must be an int of at least 1"),
        ({"rate_per_s": 10.0}, "leave rate_per_s out"),
        ({"rate_per_s": -1.0, "objective": "latency"}, "rate_per_s must be above 0"),
        (
            {"rate_per_s": 1.0, "num_users": 2, "objective": "latency"},
            "num_users and rate_per_s must not both",
        ),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(model, options, message):
    with pytest.raises(ValueError, match=message):
        quick(model, torch.rand(2, 32), **options)


def test_wrong_models_are_refused(model):
    with pytest.raises(TypeError, match="cpu_pool must be a CPUPool"):
        quick(model, torch.rand(2, 32), cpu_pool=[0])
    with pytest.raises(ValueError, match="eval mode"):
        quick(nn.Linear(3, 3), torch.rand(2, 3))
    with pytest.raises(LoweringError, match="the model must run on example_inputs"):
        quick(model, torch.rand(2, 5))
