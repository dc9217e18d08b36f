"""The three drawings: what they say, their colours, and what they need."""

from __future__ import annotations

import io
import struct
import sys
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from corestream.topo import draw_svg, draw_terminal, write_png
from corestream.topo.colours import contrast, fill_of, text_of
from corestream.topo.page import Box, Text, make_page, text_width
from corestream.topo.words import legend, short_list, summary
from tests.topologies.machines import MACHINES

SVG = "{http://www.w3.org/2000/svg}"


def in_terminal(picture, *, width=100, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    draw_terminal(picture, console=console)
    return console.file.getvalue()


def test_terminal(picture_of):
    assert in_terminal(picture_of("1 package, 4 nodes", num_streams=2)) == (
        "1 package, 4 NUMA nodes, 1 L3 domain, 24 cores, 24 CPUs\n"
        "┏ Package 0 · L3 32 MiB ━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓\n"
        "┃ ┌ NUMA node 0 ─────────┐ ┌ NUMA node 1 ─────────┐ ┃\n"
        "┃ │   0s0    1s0    2s0  │ │   6s0    7s0    8s0  │ ┃\n"
        "┃ │   3s0    4s0    5s0  │ │   9s0   10s0   11s0  │ ┃\n"
        "┃ └──────────────────────┘ └──────────────────────┘ ┃\n"
        "┃ ┌ NUMA node 2 ─────────┐ ┌ NUMA node 3 ─────────┐ ┃\n"
        "┃ │  12s1   13s1   14s1  │ │  18s1   19s1   20s1  │ ┃\n"
        "┃ │  15s1   16s1   17s1  │ │  21s1   22s1   23s1  │ ┃\n"
        "┃ └──────────────────────┘ └──────────────────────┘ ┃\n"
        "┗━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛\n"
        " s0  stream 0: 0-11    s1  stream 1: 12-23\n"
        "Allowed: 0-23 (24 CPUs). CPU budget: 24, the allowed CPUs.\n"
        "Each core: L1d 48 KiB, L2 1 MiB.\n"
    )


def test_terminal_with_colours(picture_of):
    shown = in_terminal(picture_of("hybrid"), force_terminal=True, color_system="truecolor")
    red, green, blue = (int(fill_of("pool")[i : i + 2], 16) for i in (1, 3, 5))
    assert f"48;2;{red};{green};{blue}" in shown
    assert "0*" not in shown
    assert "performance cores" in shown
    assert "efficient cores" in shown


@pytest.mark.parametrize("name", MACHINES)
def test_terminal_lines_fit(picture_of, name):
    for width in (80, 120):
        shown = in_terminal(picture_of(name), width=width)
        picture_lines = [line for line in shown.splitlines() if line[:1] in "┏┃┗"]
        assert picture_lines
        assert max(map(len, picture_lines)) <= width
        assert len(shown.splitlines()) <= 60


def test_large_machines_are_folded(picture_of):
    shown = in_terminal(picture_of("more than 1024 cpus", num_streams=16))
    assert "36-71: stream 1 (siblings 612-647)" in shown
    texts = [
        m.text for m in make_page(picture_of("more than 1024 cpus")).marks if isinstance(m, Text)
    ]
    assert " pool (siblings 576-647)" in texts


def test_what_is_not_in_a_box_is_said(picture_of):
    assert "Switched off: CPUs 2,14-15." in summary(picture_of("holes and offline"))
    assert "Memory without CPUs: NUMA nodes 2,255." in summary(picture_of("node without cpus"))
    assert any(line.startswith("Note: ") for line in summary(picture_of("gvisor")))


def test_legend_names_what_occurs(picture_of):
    assert legend(picture_of("cpuset 40-79")) == [
        (("outside",), "not allowed"),
        (("pool",), "pool: 40-79"),
    ]
    many = legend(picture_of("epyc, 4 l3s per node", num_streams=20))
    assert many[-1][1] == "streams 0 to 19, 3 or 4 CPUs each"
    assert many[0] == (("allowed",), "allowed, no stream")


@pytest.mark.parametrize(
    ("cpus", "text"),
    [
        ([0, 1, 2, 5], "0-2,5"),
        (range(0, 80, 2), "0-78 in steps of 2"),
        ([0, 4, 8, 12], "0-12 in steps of 4"),
        ([0, 4, 8], "0,4,8"),
        ([i * i for i in range(20)], "20 CPUs from 0 to 361"),
    ],
)
def test_long_lists_are_cut_short(cpus, text):
    assert short_list(cpus) == text


def test_texts_stand_out_from_their_patches():
    states = ["outside", "allowed", "pool", *range(12)]
    assert min(contrast(fill_of(state), text_of(state)) for state in states) >= 4.5
    fills = [fill_of(state) for state in states]
    assert len(set(fills)) == len(fills)
    assert fill_of(12) == fill_of(0)


@pytest.mark.parametrize("name", MACHINES)
def test_svg_is_what_the_page_has(picture_of, name):
    picture = picture_of(name, num_streams=1)
    root, page = ET.fromstring(draw_svg(picture)), make_page(picture)
    assert root.tag == f"{SVG}svg"
    assert [e.text for e in root.iter(f"{SVG}text")] == [
        mark.text for mark in page.marks if isinstance(mark, Text)
    ]
    assert len(list(root.iter(f"{SVG}rect"))) == 1 + sum(isinstance(m, Box) for m in page.marks)
    assert float(root.get("width")) == pytest.approx(page.width, abs=0.1)


@pytest.mark.parametrize("name", MACHINES)
def test_no_mark_leaves_the_page(picture_of, name):
    for num_streams in (None, 1):
        page = make_page(picture_of(name, num_streams=num_streams))
        for mark in page.marks:
            width = mark.width if isinstance(mark, Box) else text_width(mark.text, size=mark.size)
            assert mark.x >= 0
            assert mark.x + width <= page.width
            assert 0 <= mark.y <= page.height


def test_widths_are_those_of_the_font():
    """Matplotlib brings the font that the SVG names first."""
    from matplotlib.textpath import TextPath

    for text in ("NUMA node 0", "Package 1 · L3 32 MiB", "0-71: pool (siblings 576-647)", "1151"):
        for weight in ("normal", "bold"):
            path = TextPath((0, 0), text, size=12, prop={"family": "DejaVu Sans", "weight": weight})
            estimate = text_width(text, size=12, is_bold=weight == "bold")
            assert path.get_extents().width <= estimate <= 1.35 * path.get_extents().width


def test_png(picture_of, tmp_path):
    picture, path = picture_of("hybrid", num_streams=3), tmp_path / "machine.png"
    write_png(picture, path)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    page = make_page(picture)
    assert (width, height) == (int(page.width * 2), int(page.height * 2))


def test_png_shows_the_colours_of_the_streams(picture_of, tmp_path):
    from matplotlib.image import imread

    path = tmp_path / "machine.png"
    write_png(picture_of("hybrid", num_streams=3), path)
    pixels = {
        tuple(pixel) for row in (imread(path)[:, :, :3] * 255).round().astype(int) for pixel in row
    }
    for state in (0, 1, 2, "allowed"):
        assert tuple(int(fill_of(state)[i : i + 2], 16) for i in (1, 3, 5)) in pixels


def test_png_without_matplotlib_says_what_to_install(picture_of, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"matplotlib must be installed .*corestream\[plot\]"):
        write_png(picture_of("one cpu"), tmp_path / "machine.png")
    assert not (tmp_path / "machine.png").exists()
