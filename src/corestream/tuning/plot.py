"""Pictures of what tuning found. Needs matplotlib, which nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corestream.tuning.result import TuneResult
    from corestream.tuning.setting import Trial
    from corestream.tuning.threads import ThreadSweep

_ENDINGS = (".png", ".svg")

_STREAMS, _STOCK, _CHOSEN, _FRONT = "#4477aa", "#cc6677", "#117733", "#aaaaaa"


def plot_trials(result: TuneResult, path: Path) -> Path:
    """Latency against throughput of every setting; the front, the chosen one and stock by name."""
    figure = _new_figure(path, size=(8.0, 5.0))
    axes = figure.subplots()
    streams = [one for one in result.measured if not one.setting.is_stock]
    stock = [one for one in result.measured if one.setting.is_stock]
    _scatter(axes, streams, colour=_STREAMS, label="streams")
    _scatter(axes, stock, colour=_STOCK, label="stock", marker="s")
    front = result.pareto
    axes.plot(
        [one.items_per_s for one in front],
        [one.p50_ms for one in front],
        color=_FRONT,
        zorder=1,
        label="front",
    )
    for one in front:
        shape = f"{one.setting.num_streams} × {one.setting.team_size}"
        name = "stock" if one.setting.is_stock else shape
        axes.annotate(
            f"{name}, batch {one.setting.batch_size}",
            (one.items_per_s, one.p50_ms),
            xytext=(-9, 6),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="#555555",
        )
    chosen = [one for one in result.measured if one.setting == result.recommended]
    for one in chosen:
        axes.scatter(
            one.items_per_s, one.p50_ms, s=170, facecolors="none", edgecolors=_CHOSEN, linewidths=2
        )
    axes.set_yscale("log")
    axes.set_xlim(left=0, right=1.05 * max(one.items_per_s for one in result.measured))
    axes.set_xlabel("throughput, items per second")
    axes.set_ylabel("median latency of a request, ms")
    title = f"{result.objective}: {result.recommended}"
    axes.set_title(f"{title}\n{result.verdict}", fontsize=10)
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(frameon=False)
    return _write(figure, path)


def plot_threads(sweep: ThreadSweep, path: Path) -> Path:
    """Runtime against the number of intra-op threads, with the best and oversubscription."""
    figure = _new_figure(path, size=(8.0, 4.5))
    axes = figure.subplots()
    counts = [point.num_threads for point in sweep.points]
    medians = [point.median_ms for point in sweep.points]
    low = [point.median_ms - point.p10_ms for point in sweep.points]
    high = [point.p90_ms - point.median_ms for point in sweep.points]
    axes.errorbar(
        counts,
        medians,
        yerr=[low, high],
        color=_STREAMS,
        marker="o",
        capsize=3,
        label="median, p10–p90",
    )
    best = sweep.best
    axes.scatter(
        best.num_threads,
        best.median_ms,
        s=170,
        facecolors="none",
        edgecolors=_CHOSEN,
        linewidths=2,
        label=f"best: {best.num_threads} threads, {best.median_ms:.3g} ms",
        zorder=3,
    )
    if max(counts) > sweep.num_cpus:
        axes.axvspan(
            sweep.num_cpus + 0.5,
            max(counts) + 0.5,
            color=_STOCK,
            alpha=0.12,
            label=f"oversubscribed: more than {sweep.num_cpus} CPUs",
        )
    axes.set_xticks(counts if len(counts) <= 24 else counts[:: len(counts) // 12])
    axes.set_xlim(0.5, max(counts) + 0.5)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("intra-op threads")
    axes.set_ylabel("runtime, ms")
    axes.set_title(sweep.subject, fontsize=10)
    axes.grid(True, alpha=0.25)
    axes.legend(frameon=False)
    return _write(figure, path)


def check_ending(path: Path) -> None:
    """Raises unless it is one that can be drawn."""
    if path.suffix.lower() not in _ENDINGS:
        raise ValueError(
            f"path must end in .png or .svg; got {str(path)!r}; choose one of the endings"
        )


def check_matplotlib() -> None:
    """Raises, saying how to get it, if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401 (is it there?)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "matplotlib must be installed to draw; got no such package; install corestream[plot]"
        ) from error


def _scatter(
    axes: Any, trials: Sequence[Trial], *, colour: str, label: str, marker: str = "o"
) -> None:
    # Finalists were measured more often, and longer.
    axes.scatter(
        [one.items_per_s for one in trials],
        [one.p50_ms for one in trials],
        s=[46 if one.is_finalist else 22 for one in trials],
        alpha=0.85,
        color=colour,
        marker=marker,
        label=label,
        zorder=2,
    )


def _new_figure(path: Path, *, size: tuple[float, float]) -> Any:
    check_ending(path)
    check_matplotlib()
    # Not pyplot, which keeps figures and a backend for the whole process.
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _write(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=150)
    return path
