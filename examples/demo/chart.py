"""The demo's picture: throughput and latency against users."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from results import Measurement

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

_COLOURS = {"stock torch": "#8c8c8c", "corestream": "#1a7f4b"}


def draw(path: Path, measurements: list[Measurement]) -> None:
    """Writes the picture as a PNG."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for engine, colour in _COLOURS.items():
        series = [each for each in measurements if each.engine == engine]
        users = [each.users for each in series]
        style = {"color": colour, "marker": "o", "linewidth": 2}
        left.plot(users, [each.requests_per_s for each in series], label=engine, **style)
        right.plot(users, [each.p50_ms for each in series], label=f"{engine}, p50", **style)
        style |= {"linestyle": "--", "marker": "s"}
        right.plot(users, [each.p99_ms for each in series], label=f"{engine}, p99", **style)
    _finish(left, users, title="Throughput (higher is better)", unit="requests per second")
    _finish(right, users, title="Latency (lower is better)", unit="milliseconds per request")
    figure.get_layout_engine().set(wspace=0.08)
    figure.suptitle("MiniLM-L6 sentence encoder on a CPU, one sentence per request")
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _finish(axes: Axes, users: list[int], *, title: str, unit: str) -> None:
    axes.set_title(title)
    axes.set_xscale("log", base=2)
    axes.set_xticks(users, [str(count) for count in users])
    axes.minorticks_off()
    axes.set_xlabel("concurrent users")
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
