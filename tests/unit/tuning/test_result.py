"""What a result says, in text, JSON, pictures and profiles."""

from __future__ import annotations

import builtins
from dataclasses import replace

import pytest
from rich.console import Console

from corestream.profiles import ProfileKey, find_profile
from corestream.tuning import Setting, TuneResult
from corestream.tuning.result import pareto_front
from corestream.tuning.setting import STOCK, Measurement, Trial

STOCK_2 = Setting(num_streams=1, team_size=2, batch_size=4, backend=STOCK)
BEST = Setting(num_streams=2, team_size=1, batch_size=8, backend="torchscript")
QUICK = Setting(num_streams=1, team_size=2, batch_size=1, backend="torchscript")
WORSE = Setting(num_streams=1, team_size=1, batch_size=1, backend="eager")
FAILED = Setting(num_streams=1, team_size=1, batch_size=1, backend="aotinductor")


def trial(setting: Setting, rate: float, p50_ms: float, *, rounds: int = 1) -> Trial:
    one = Measurement(items_per_s=rate, p50_ms=p50_ms, p99_ms=2 * p50_ms)
    return Trial(setting=setting, measurements=(one,) * rounds, is_finalist=rounds > 1)


RESULT = TuneResult(
    recommended=BEST,
    streams=BEST,
    verdict="2.00 times the throughput of stock (1.9 to 2.1 in 3 rounds)",
    is_beyond_noise=True,
    is_met=True,
    objective="throughput",
    load="closed loop of a user for each stream",
    trials=(
        trial(STOCK_2, 100.0, 40.0, rounds=3),
        trial(BEST, 200.0, 80.0, rounds=3),
        trial(QUICK, 150.0, 7.0),
        trial(WORSE, 90.0, 11.0),
        Trial(setting=FAILED, reason="not tried: lowering for it takes about 40 s"),
    ),
    key=ProfileKey(cpu_model="CPU", cpus="0-1", torch="2.13.0", model="ab" * 32),
    budget_s=60.0,
    elapsed_s=42.0,
    notes=("not tried for want of time: aotinductor",),
    made="2026-11-27T10:00:00+00:00",
)


def test_json_and_back():
    assert TuneResult.from_json(RESULT.to_json()) == RESULT
    values = RESULT.to_dict()
    assert values["line"] == "streams=2 team_size=1 batch=8 backend=torchscript"
    assert values["pareto"] == [str(QUICK), str(BEST)]
    assert values["profile"]["num_streams"] == 2


@pytest.mark.parametrize(
    "change", [{"format": "x"}, {"version": 99}, {"trials": [{}]}, {"recommended": {}}]
)
def test_other_json_is_refused(change):
    with pytest.raises(ValueError, match=r"must"):
        TuneResult.from_dict({**RESULT.to_dict(), **change})
    with pytest.raises(ValueError, match="values must say format"):
        TuneResult.from_dict([])


def test_the_front_holds_what_nothing_beats_in_both():
    assert [one.setting for one in RESULT.pareto] == [QUICK, BEST]
    for one in RESULT.measured:
        is_beaten = any(
            other.items_per_s > one.items_per_s and other.p50_ms < one.p50_ms
            for other in RESULT.measured
        )
        assert (one in RESULT.pareto) != is_beaten
    same = [trial(WORSE, 90.0, 11.0), trial(QUICK, 90.0, 11.0)]
    assert len(pareto_front(same)) == 1


def test_the_text_has_one_line_to_use_and_the_verdict_last():
    lines = str(RESULT).splitlines()
    assert lines[-2:] == [f"throughput: {BEST}", RESULT.verdict]
    assert sum(line.startswith("*") for line in lines) == 2  # the row, and what the mark means
    assert any("stock" in line and "100" in line for line in lines)
    assert "note: not tried for want of time: aotinductor" in lines


def test_the_table_fits_into_a_terminal_of_80_columns():
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(RESULT)
    text = capture.get()
    assert "torchscript" in text
    assert "…" not in text


def test_the_profile_is_the_best_with_streams_also_where_stock_won(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lost = replace(RESULT, recommended=STOCK_2, verdict="stay with stock")
    lost.save()
    found = find_profile(RESULT.key).profile
    assert found is not None
    assert found.is_stock_best
    assert (found.num_streams, found.team_size, found.batch_size) == (2, 1, 8)
    with pytest.raises(ValueError, match="must have a setting with streams to be saved"):
        replace(RESULT, streams=None).save()


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_plot_is_a_picture(ending, tmp_path):
    path = RESULT.plot(tmp_path / f"a.{ending}")
    start = path.read_bytes()[:300]
    assert start.startswith(b"\x89PNG") if ending == "png" else b"<svg" in path.read_bytes()


def test_other_endings_are_refused_and_a_missing_matplotlib_says_how_to_get_it(
    tmp_path, monkeypatch
):
    with pytest.raises(ValueError, match=r"path must end in .png or .svg"):
        RESULT.plot(tmp_path / "a.pdf")
    real_import = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ModuleNotFoundError, match=r"install corestream\[plot\]"):
        RESULT.plot(tmp_path / "a.png")
