"""The report as text and as a picture."""

from __future__ import annotations

import io

from rich.console import Console

from corestream.bench.disturbance import Disturbance
from corestream.bench.plot import write_chart
from corestream.bench.terminal import print_report
from tests.unit.bench.reports import report

FAST = [2000, 2010, 1990, 2000, 2005]
SLOW = [1000, 1010, 990, 1000, 1005]


def text_of(found, *, width: int = 80) -> str:
    stream = io.StringIO()
    print_report(found, console=Console(file=stream, width=width))
    return stream.getvalue()


def test_a_redirected_report_cuts_nothing_off():
    noisy = Disturbance(12, 1.0, 0.0, 0.25)
    text = text_of(report(stock=SLOW, ours=FAST, disturbance=noisy))
    for part in (
        "package.models:make, an nn.Module, inputs 1x3:float32[0,1]",
        "realtime: batch 1, 4 cores a stream; 5 rounds of 1 s a turn",
        "1990–2010",
        "corestream: other processes had 25% of the CPUs, the CPU quota stopped it 60 times",
        "4 users, corestream: throughput 2 × better than stock",
        "a [bracket] in a note",
    ):
        assert part in " ".join(text.split()), text
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_problems_stand_at_the_end():
    found = report(stock=SLOW, ours=FAST)
    mode = found.modes[0]
    broken = type(found)(
        **{
            **vars(found),
            "modes": (type(mode)(**{**vars(mode), "problems": ("answers [x] differ",)}),),
        }
    )
    assert text_of(broken).rstrip().endswith("problem: realtime: answers [x] differ")


def test_the_picture_is_a_png(tmp_path):
    path = tmp_path / "bench.png"
    write_chart(report(stock=SLOW, ours=FAST), path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) > 10_000


def test_who_answered_nothing_is_drawn_too(tmp_path):
    write_chart(report(stock=SLOW, ours=[1, 1, 1, 1, 1]), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").exists()
