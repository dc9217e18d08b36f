"""The table's harness end to end, its arithmetic and its pages; nothing depends on how fast."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
MODEL, BATCH = "SqueezeNet", 2
ONE_ROUND_S = 0.01


# Factories of entrants, which workers import from this file; all but the first are free of torch.


def quick_corestream(job):
    """As the real one, but with the backend that takes no compiler."""
    from benchmarks.peers.streams import load

    return load(job, backend="torchscript")


def right(job, run=lambda: None):
    """Knows the outputs by heart."""
    from benchmarks.table.job import read_arrays
    from benchmarks.table.runner import Runner

    return Runner(run, lambda: read_arrays(job.path(f"expected-{job.batch}.npz")))


def wrong(job):
    """Swaps the logits of the classes."""
    outputs = right(job).outputs
    return dataclasses.replace(right(job), outputs=lambda: [a[:, ::-1].copy() for a in outputs()])


def dies_loading(job):
    raise OSError("no such kernel")


def dies_in_its_turn(job):
    return right(job, lambda: os.kill(os.getpid(), signal.SIGKILL))


def hangs_in_its_turn(job):
    return right(job, signal.pause)


def hangs_loading(job):
    signal.pause()


def loads_beside_the_patient(job):
    """Is not done before the patient one waits, nor as soon as it does."""
    runner = right(job)
    with job.path("waits").open() as pipe:
        pipe.read()
    job.path("loaded").touch()
    return runner


def patient(job):
    from benchmarks.table.job import wait_for_others

    runner = right(job)
    with job.path("waits").open("w") as pipe:
        pipe.write("now")
    wait_for_others(job)
    return dataclasses.replace(runner, notes={"was alone": str(job.path("loaded").exists())})


# ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def torchvision_files():
    """The model definitions, which `make install` may not have fetched."""
    subprocess.run([REPO / "scripts/peers", "torchvision"], check=True, timeout=110)


@pytest.fixture(scope="module")
def prepared(torchvision_files, tmp_path_factory):
    from benchmarks.table.prepare import prepare

    folder = tmp_path_factory.mktemp("prepared")
    prepare(MODEL, folder, batches=[BATCH])
    return folder


def make_job(folder, *, num_streams=1):
    from benchmarks.machine import core_ids
    from benchmarks.table.job import Job

    return Job(MODEL, "throughput", "fp32", BATCH, core_ids()[:1], num_streams, str(folder))


def hold(entrants, folder, **limits):
    from benchmarks.table.contest import Effort, measure

    limits = {"load_timeout_s": 100.0, "turn_timeout_s": 60.0} | limits
    effort = Effort(rounds=2, least_rounds=2, seconds=ONE_ROUND_S, budget_s=0.0, **limits)
    job = make_job(folder)
    return measure(entrants, job, effort=effort, logs=folder, show=lambda text: None)


def entrant(function, **options):
    from benchmarks.table.entrants import Entrant

    factory = f"tests.integration.{Path(__file__).stem}:{function.__name__}"
    return Entrant(function.__name__, factory, **options)


@pytest.mark.needs_build
def test_stock_and_corestream_compute_the_same_and_are_timed_in_every_round(prepared):
    from benchmarks.table.entrants import ENTRANTS, STOCK

    quick = entrant(quick_corestream, measures_itself=True)
    found = hold({STOCK: ENTRANTS[STOCK], "corestream": quick}, prepared)
    for result in found.values():
        assert result["status"] == "ok", result
        assert len(result["seconds"]) == 2
        assert all(seconds > 0 for seconds in result["seconds"])
    assert found["corestream"]["error"] < 1e-4
    notes = found["corestream"]["notes"]
    assert notes["backend"].startswith("torchscript")
    assert "torchscript" in notes["measured"]


@pytest.mark.needs_build
def test_entrants_that_are_wrong_or_die_are_shown_and_the_others_go_on(prepared):
    fakes = (wrong, dies_loading, dies_in_its_turn, right)
    found = hold({fake.__name__: entrant(fake) for fake in fakes}, prepared)
    assert {name: result["status"] for name, result in found.items()} == {
        "wrong": "wrong",
        "dies_loading": "failed",
        "dies_in_its_turn": "failed",
        "right": "ok",
    }
    assert "differs by" in found["wrong"]["reason"]
    assert found["dies_loading"]["reason"].endswith("OSError: no such kernel")
    assert "died with status -9" in found["dies_in_its_turn"]["reason"]
    assert len(found["right"]["seconds"]) == 2


@pytest.mark.needs_build
def test_one_that_measures_itself_loads_beside_the_others_and_waits_for_them(prepared):
    os.mkfifo(prepared / "waits")
    fakes = [entrant(patient, measures_itself=True), entrant(loads_beside_the_patient)]
    found = hold({fake.label: fake for fake in fakes}, prepared)
    assert list(found) == ["patient", "loads_beside_the_patient"]
    assert {result["status"] for result in found.values()} == {"ok"}, found
    assert found["patient"]["notes"] == {"was alone": "True"}
    assert len(found["patient"]["seconds"]) == 2


@pytest.mark.needs_build
def test_an_entrant_that_hangs_is_given_up(prepared):
    found = hold({"hangs": entrant(hangs_in_its_turn)}, prepared, turn_timeout_s=0.2)
    assert found["hangs"]["reason"] == "hung: no answer in 0.2 s"
    found = hold({"hangs": entrant(hangs_loading)}, prepared, load_timeout_s=0.2)
    assert (found["hangs"]["status"], "hung" in found["hangs"]["reason"]) == ("failed", True)


@pytest.mark.needs_build
def test_waiting_entrants_are_stopped_and_gone_after_the_contest(prepared):
    import psutil

    from benchmarks.table.process import EntrantProcess

    log = prepared / "states.log"
    process = EntrantProcess(entrant(right), make_job(prepared), log=log, timeout_s=100)
    with process:
        child = psutil.Process(process.pid)
        assert child.status() == psutil.STATUS_STOPPED
        assert process.measure(ONE_ROUND_S, timeout_s=60)
        assert child.status() == psutil.STATUS_STOPPED
    assert not child.is_running()


# The arithmetic. --------------------------------------------------------------------------------


def make_row(model="ResNet-50", *, mode="throughput", dtype="fp32", **seconds):
    """A row whose entrants take `seconds` per call, given per round."""
    entrants = {
        name: {"label": name, "status": "ok", "seconds": values} for name, values in seconds.items()
    }
    return {
        "model": model,
        "mode": mode,
        "dtype": dtype,
        "kind": "cnn",
        "unit": "img",
        "batch": 16,
        "flops": 1e9,
        "peak": [32e9, 32e9],
        "num_cores": 2,
        "stolen": 0.01,
        "time": "2026-11-21T00:00:00Z",
        "machine": {
            "cpu": "A CPU",
            "kernel": "6",
            "torch": "2",
            "python": "3",
            "capability": "AVX2",
        },
        "entrants": entrants,
    }


def test_ratios_are_taken_round_by_round():
    from benchmarks.table import figures

    # In the second round the machine was half as fast for both: no reason to see a difference.
    row = make_row(corestream=[1.0, 2.0], openvino=[1.1, 2.2], stock=[3.0, 6.0])
    assert figures.gain(row, "openvino").median == pytest.approx(1.1)
    assert figures.gain(row, "stock").p10 == pytest.approx(3.0)
    assert figures.best(row) == "openvino"
    assert figures.best(row, ("stock",)) == "stock"
    assert figures.share_of_peak(row, "corestream") == pytest.approx((0.5 + 0.25) / 2)


def test_a_peer_is_ahead_by_more_than_a_tie_only():
    from benchmarks.table import figures

    row = make_row(corestream=[1.0, 1.0], openvino=[0.99, 0.99], ipex=[0.97, 0.97])
    assert not figures.is_ahead(row, "openvino")
    assert figures.is_ahead(row, "ipex")
    assert not figures.is_ahead(row, "corestream")


def test_wrong_and_failed_entrants_are_nobodys_best_peer():
    from benchmarks.table import figures

    row = make_row(corestream=[1.0, 1.0], openvino=[0.1, 0.1], stock=[2.0, 2.0])
    row["entrants"]["openvino"].update(status="wrong", reason="differs")
    assert figures.best(row) == "stock"
    assert figures.gain(row, "openvino") is None


def test_geometric_means_compare_with_the_best_of_each_row():
    from benchmarks.table import figures

    rows = [
        make_row(corestream=[1.0], openvino=[2.0], ipex=[4.0], stock=[8.0]),
        make_row(corestream=[1.0], openvino=[4.0], ipex=[0.5], stock=[2.0]),
        make_row(mode="latency", corestream=[1.0], stock=[100.0]),
    ]
    found = {mean.name: mean for mean in figures.means(rows, mode="throughput")}
    assert found["the best peer of each row"].value == pytest.approx(1.0)
    assert found["IPEX 2.8, the better of two ways"].value == pytest.approx(2**0.5)
    assert found["stock eager"].value == pytest.approx(4.0)
    assert found["stock eager"].verdict == "PASS"
    assert found["stock eager"].count == 2
    assert "torch.compile with freezing" not in found


def test_targets_of_rows():
    from benchmarks.table import figures

    cnn = make_row(corestream=[1.0], openvino=[0.975], stock=[2.0])
    assert figures.target(cnn).is_met(cnn) is False
    transformer = {**cnn, "kind": "transformer"}
    assert figures.target(transformer).is_met(transformer) is True
    latency = {**cnn, "mode": "latency"}  # OpenVINO is not among those to be level with
    assert figures.target(latency).is_met(latency) is True
    assert figures.target({**cnn, "kind": "other"}) is None


def test_scaling_counts_are_powers_of_two_and_all_cores():
    from benchmarks.table.scaling import counts

    assert [counts(n) for n in (1, 2, 3, 16)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8, 16]]


def test_the_scaling_page_has_a_line_for_each_number_of_cores():
    from benchmarks.table import scaling

    points = []
    for cores in (1, 2):
        one = {scaling.ONE_INSTANCE: [1.0, 1.0], "corestream": [1.0 / cores, 1.0 / cores]}
        row = make_row(**one)
        points.append({"num_cores": cores, "batch": 8 * cores, "entrants": row["entrants"]})
    points[0]["entrants"]["corestream"].update(status="failed", reason="died")
    lines = scaling.markdown({"model": "ResNet-50", "points": points})
    assert lines[-3:-1] == [
        "| 1 | 8.00 | failed | – |",
        "| 2 | 16.0 | 32.0 | 2.00 (2.00–2.00) |",
    ]


# The pages. -------------------------------------------------------------------------------------


def test_the_page_shows_who_is_ahead_who_is_wrong_and_why(tmp_path):
    from benchmarks.table import render

    row = make_row(corestream=[0.5, 0.5], openvino=[0.4, 0.4], stock=[1.0, 1.0], jit=[0.1, 0.1])
    row["entrants"]["jit"].update(status="wrong", reason="output differs by 1")
    skipped = {**make_row(dtype="bf16"), "skipped": "the CPU has no bf16"}
    del skipped["entrants"]
    (tmp_path / "machine.toml").write_text(
        '"ResNet-50 throughput fp32 openvino" = "Its kernel packs the input."\n'
    )
    reasons = render.load_reasons(tmp_path / "machine.toml")
    page = render.markdown([row, skipped], reasons=reasons, chart="machine.png")
    assert "![corestream over each peer, per row](machine.png)" in page
    line = next(line for line in page.splitlines() if line.startswith("| ResNet-50"))
    assert line == (
        "| ResNet-50, batch 16 | 16.0 (50%) | wrong | 🔴 40.0 (125%) | 32.0 (100%) "
        "| 0.80 (0.80–0.80) |"
    )
    assert "openvino is 1.25 times as fast. Its kernel packs the input." in page
    assert "jit wrong: output differs by 1" in page
    assert "Not measured: the CPU has no bf16." in page
    assert "| stock eager | throughput | 2.00 | 1 | ≥ 2.2 | FAIL |" in page
    assert "Reason not found yet" in render.markdown([row], reasons={}, chart=None)


def test_the_chart_is_drawn_where_there_is_something_to_draw(tmp_path):
    from benchmarks.table.chart import draw

    assert not draw([make_row(stock=[1.0])], tmp_path / "none.png")
    rows = [make_row(corestream=[0.5], stock=[1.0]), make_row("VGG-16", stock=[1.0])]
    assert draw(rows, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.needs_build
def test_the_command_keeps_rows_resumes_and_writes_the_page(torchvision_files, tmp_path, capsys):
    from benchmarks.table.cli import main

    command = ["--quick", "--models", MODEL, "--modes", "latency", "--dtypes", "fp32"]
    command += ["--entrants", "stock", "--cores", "1"]
    command += ["--results", str(tmp_path / "rows"), "--docs", str(tmp_path / "docs")]
    main(command)
    assert f"{MODEL}, batch 1" in capsys.readouterr().out
    (kept,) = (tmp_path / "rows").glob("*/*.json")
    row = json.loads(kept.read_text())
    assert len(row["entrants"]["stock"]["seconds"]) == len(row["peak"]) == 2
    assert all(peak > 1e8 for peak in row["peak"])
    main([*command, "--resume"])
    assert json.loads(kept.read_text()) == row
    (page,) = (tmp_path / "docs").glob("*.md")
    assert f"| {MODEL}, batch 1 |" in page.read_text()
    assert not list((tmp_path / "rows").glob("*/table-*"))  # weights and logs are gone


def test_unknown_models_are_refused_with_those_there_are(capsys):
    from benchmarks.table.cli import main

    with pytest.raises(SystemExit):
        main(["--models", "ResNet-51"])
    assert "ShuffleNetV2" in capsys.readouterr().err


# The zoo. ---------------------------------------------------------------------------------------

# Parameters in millions, as the models' papers and documentation have them.
PARAMETERS = {
    "ResNet-18": 11.7,
    "ResNet-50": 25.6,
    "ResNet-101": 44.5,
    "ResNet-152": 60.2,
    "ResNeXt-50 32x4d": 25.0,
    "ResNeXt-101 32x8d": 88.8,
    "MobileNetV1": 4.2,
    "MobileNetV2": 3.5,
    "AlexNet": 61.1,
    "VGG-16": 138.4,
    "GoogLeNet": 6.6,
    "Inception v3": 23.8,
    "ShuffleNetV2": 2.3,
    "SqueezeNet": 1.2,
    "BERT-base": 108.9,
    "DistilBERT": 66.4,
    "ViT-B/16": 86.6,
    "DLRM": 33.8,
    "LSTM": 3.7,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_models_have_their_size_and_take_their_inputs(torchvision_files, name):
    import torch

    from benchmarks.zoo import MODELS, example_inputs

    # Shapes need no numbers; but the encoders look whether their mask masks anything.
    device = "cpu" if name in ("BERT-base", "DistilBERT") else "meta"
    with torch.device(device):
        model = MODELS[name].build().eval()
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(
        PARAMETERS[name], abs=0.06
    )
    inputs = [tensor.to(device) for tensor in example_inputs(name, batch=2)]
    with torch.inference_mode():
        assert model(*inputs).shape[0] == 2


def test_minilm_has_its_real_weights():
    import torch

    from benchmarks.zoo import build, example_inputs

    with torch.inference_mode():
        out = build("MiniLM")(*example_inputs("MiniLM", batch=2))
    assert out.shape == (2, 384)
    assert out.norm(dim=1).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)


def test_all_models_of_the_zoo_are_tested_here():
    from benchmarks.zoo import MODELS

    assert set(MODELS) == {*PARAMETERS, "MiniLM"}


@pytest.mark.parametrize("name", ["SqueezeNet", "ShuffleNetV2"])
def test_random_weights_are_the_same_each_time_and_keep_activations_alive(torchvision_files, name):
    import torch

    from benchmarks.zoo import build, count_flops, example_inputs

    state = torch.get_rng_state()
    model, again = build(name), build(name)
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value)
    with torch.inference_mode():
        out = model(*example_inputs(name, batch=2))
    assert 0.1 < out.square().mean().sqrt() < 100
    assert 0.2e9 < count_flops(name, model) < 1e9


def test_definitions_leave_torchvisions_own_name_alone(torchvision_files):
    from benchmarks.zoo.definitions import torchvision_models

    before = sys.modules.get("torchvision")
    assert torchvision_models("resnet").ResNet.__name__ == "ResNet"
    assert sys.modules.get("torchvision") is before
