"""Reports made by hand: rounds with the rates and latencies that a test wants."""

from __future__ import annotations

from collections.abc import Sequence

from corestream.bench.disturbance import Disturbance
from corestream.bench.report import ContenderReport, ModeReport, Report, Turn, judge, make_row
from corestream.measure.load import LoadResult

QUIET = Disturbance()


def turns(rates: Sequence[float], *, disturbance: Disturbance = QUIET, failed: int = 0):
    """One turn of a second for each rate; requests take as long as one after another would."""
    return [
        Turn(LoadResult(round(rate), failed, 0, 1.0, tuple([1 / rate] * round(rate))), disturbance)
        for rate in rates
    ]


def report(
    *, stock: Sequence[float], ours: Sequence[float], disturbance: Disturbance = QUIET
) -> Report:
    rounds = {"stock": turns(stock), "corestream": turns(ours, disturbance=disturbance)}
    verdicts = []
    for load, is_open in (("4 users", False), ("70 % load", True)):
        verdicts += judge(
            load, "corestream", turns=rounds["corestream"], stock=rounds["stock"], is_open=is_open
        )
    mode = ModeReport(
        mode="realtime",
        batch_size=1,
        num_cores=8,
        team_size=4,
        rounds=len(stock),
        turn_s=1.0,
        contenders=(
            ContenderReport("stock", "stock torch", 0.5, 300 << 20, None),
            ContenderReport(
                "corestream",
                "on streams",
                9.0,
                400 << 20,
                200 << 20,
                1,
                "torchscript",
                2,
                1e-7,
                1e-4,
            ),
        ),
        rows=tuple(
            make_row(load, name, turns=taken, batch_size=1)
            for load in ("4 users", "70 % load")
            for name, taken in rounds.items()
        ),
        verdicts=tuple(verdicts),
        notes=("a [bracket] in a note",),
    )
    machine = {"cpu": "A CPU", "cpu_budget": 8, "torch": "2"}
    return Report("package.models:make", "an nn.Module", ("1x3:float32[0,1]",), machine, (mode,))
