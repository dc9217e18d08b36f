"""`corestream topo`, end to end."""

from __future__ import annotations

import json
import sys

import pytest

from corestream.cli import main
from tests.api.source_tree import REPO
from tests.topologies.builder import build
from tests.topologies.machines import MACHINES


@pytest.fixture
def epyc(tmp_path):
    return build(tmp_path / "epyc", MACHINES["epyc, 4 l3s per node"])


def test_this_machine(capsys):
    assert main(["topo"]) == 0
    captured = capsys.readouterr()
    assert "Package" in captured.out
    assert "CPU budget" in captured.out
    assert captured.err == ""


def test_a_gathered_machine_with_files(epyc, tmp_path, capsys):
    svg, png = tmp_path / "a.svg", tmp_path / "a.png"
    options = ["--root", str(epyc), "--num-streams", "4", "--svg", str(svg), "--png", str(png)]
    assert main(["topo", *options]) == 0
    captured = capsys.readouterr()
    assert "stream 3: 48-63" in captured.out
    assert captured.err == f"corestream: wrote {svg}\ncorestream: wrote {png}\n"
    assert ">stream 3: 48-63</text>" in svg.read_text()
    assert png.read_bytes()[:4] == b"\x89PNG"


def test_json_is_all_that_is_printed(epyc, tmp_path, capsys):
    options = ["--root", str(epyc), "--cpus", "8-15", "--num-streams", "2", "--json"]
    assert main(["topo", *options, "--svg", str(tmp_path / "a.svg")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [stream["core_ids"] for stream in report["streams"]] == [
        [8, 9, 10, 11],
        [12, 13, 14, 15],
    ]
    assert report["cpu_budget"]["count"] == 128


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--root", "/nonexistent"], "root must be a folder with the text of a machine; got "),
        (["--num-streams", "0"], "num_streams must be from 1 to the "),
        (["--cpus", "3-1"], "cpus must be a CPU list with ascending ranges; got '3-1'"),
        (["--svg", "/nonexistent/a.svg"], "svg must be a file that can be written; got "),
        (["--png", "/nonexistent/a.png"], "png must be a file that can be written; got "),
    ],
)
def test_wrong_use(options, line, capsys):
    assert main(["topo", *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"corestream: {line}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_png_without_matplotlib(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["topo", "--png", str(tmp_path / "a.png")]) == 2
    assert "pip install 'corestream[plot]'" in capsys.readouterr().err


def test_the_documented_picture_is_current(epyc, tmp_path):
    svg = tmp_path / "topo.svg"
    assert main(["topo", "--root", str(epyc), "--num-streams", "8", "--svg", str(svg)]) == 0
    assert svg.read_text() == (REPO / "docs/images/topo.svg").read_text(), (
        f"copy {svg} to docs/images"
    )
