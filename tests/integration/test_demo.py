"""The demo on a small scale: both engines in every table, equal answers, and the picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "demo.py"
ENGINES = ["stock torch", "corestream"]
# fp32 sums of another order; a wrong weight or pooling is off by a hundredth and more.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    output = tmp_path_factory.mktemp("demo")
    # Rich would take colours and width from here, whatever its output is.
    environment = {k: v for k, v in os.environ.items() if k not in {"FORCE_COLOR", "COLUMNS"}}
    done = subprocess.run(
        [sys.executable, str(DEMO), "--quick", "--output", str(output)],
        capture_output=True,
        text=True,
        timeout=110,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done, output, json.loads((output / "results.json").read_text())


def table_rows(text: str, title: str) -> list[list[str]]:
    lines = text.split(title, maxsplit=1)[1].splitlines()
    body = lines[next(i for i, line in enumerate(lines) if line.startswith("┡")) + 1 :]
    body = body[: next(i for i, line in enumerate(body) if line.startswith("└"))]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in body if "│" in line]


@pytest.mark.needs_build
def test_loads_have_both_engines(demo):
    done, _, results = demo
    rows = table_rows(done.stdout, "One sentence a request")
    assert [(row[0], row[1]) for row in rows] == [
        ("1", ENGINES[0]),
        ("", ENGINES[1]),
        ("2", ENGINES[0]),
        ("", ENGINES[1]),
    ]
    measured = [(each["users"], each["engine"]) for each in results["measurements"]]
    assert measured == [(users, engine) for users in (1, 2) for engine in ENGINES]
    for each in results["measurements"]:
        assert each["requests_per_s"] > 0
        assert 0 < each["p50_ms"] <= each["p99_ms"]
        # The weights alone are 87 MB.
        assert each["memory_mb"] > 87


@pytest.mark.needs_build
def test_engines_agree(demo):
    done, _, results = demo
    stock, ours = (results["nearest"][engine] for engine in ENGINES)
    assert len(stock) == 3
    assert [each["sentence"] for each in ours] == [each["sentence"] for each in stock]
    cosines = [each["cosine"] for each in stock]
    assert cosines == sorted(cosines, reverse=True)
    assert [each["cosine"] for each in ours] == pytest.approx(cosines, abs=TOLERANCE)
    assert results["max_difference"] <= TOLERANCE
    assert results["max_difference_under_load"] <= TOLERANCE
    printed = {row[0] for row in table_rows(done.stdout, "Nearest to")}
    assert printed - {""} == set(ENGINES)


@pytest.mark.needs_build
def test_picture(demo):
    _, output, _ = demo
    with Image.open(output / "demo.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
        # Both engines' colours are there, so both were drawn.
        colours = {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=2**24)}
    assert {(0x8C, 0x8C, 0x8C), (0x1A, 0x7F, 0x4B)} <= colours


@pytest.mark.needs_build
def test_output_has_no_terminal_codes_or_warnings(demo):
    done, _, _ = demo
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert done.stderr == ""
