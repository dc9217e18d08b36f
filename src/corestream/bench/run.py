"""A benchmark of one model: every mode, within one budget."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from corestream.bench.match import Match, UnfitError
from corestream.bench.plan import Options, make_plans
from corestream.bench.report import ModeReport, Report
from corestream.cpu.allowed import allowed_cpus
from corestream.cpu.budget import cpu_budget
from corestream.cpu.pool import CPUPool
from corestream.measure.process import MisuseError
from corestream.profiles.cpu_model import cpu_model

SETUP_TIMEOUT_S = 900.0

Advance = Callable[[float, str], object]


def bench_model(
    model: str,
    inputs: Sequence[str],
    *,
    options: Options | None = None,
    setup_timeout_s: float = SETUP_TIMEOUT_S,
    advance: Advance | None = None,
) -> Report:
    """Measures a model as stock torch runs it and as corestream does, each in its own process.

    Args:
        model: What `corestream.lowering.named_model.load_model` takes.
        inputs: What `corestream.measure.input_text.load_inputs` takes.
        options: How it shall be measured.
        setup_timeout_s: Seconds that a process may take to load and lower before it counts as hung.
        advance: Called with the seconds that are spent and what is being done.

    Returns:
        What was found.

    Raises:
        ValueError: An option is out of range.
        MisuseError: There is no such model, or the inputs do not fit: one line.
        ChildError: A process died, hung or failed: one line. Nothing is left running.

    Example:
        >>> bench_model("torch.nn:ReLU", ["2x3"], options=Options(modes=("real",)))
        Traceback (most recent call last):
        ValueError: mode must be one of offline, realtime; got 'real'; write one of these

    Not thread-safe: other work would disturb what is measured. Waits without the GIL.
    """
    asked = options or Options()
    plans = make_plans(asked, pool=CPUPool())
    cpus = allowed_cpus()
    start_s = time.monotonic()

    def spent_s() -> float:
        return time.monotonic() - start_s

    def tick(text: str) -> None:
        if advance is not None:
            advance(spent_s(), text)

    reports: list[ModeReport] = []
    notes: list[str] = []
    kind = ""
    with tempfile.TemporaryDirectory(prefix="corestream-bench-") as folder:
        for index, plan in enumerate(plans):
            left_s = (asked.budget_s - spent_s()) / (len(plans) - index)
            end_s = spent_s() + left_s
            with Match(
                plan,
                options=asked,
                model=model,
                inputs=inputs,
                cpus=cpus,
                folder=Path(folder),
                setup_timeout_s=setup_timeout_s,
                tick=tick,
            ) as match:
                try:
                    kind = match.prepare()
                except UnfitError as error:
                    if len(plans) == 1:
                        raise MisuseError(str(error)) from error
                    notes.append(f"{plan.mode} mode was left out: {error}")
                    continue
                reports.append(match.measure(budget_s=max(0.0, end_s - spent_s())))
    if spent_s() > asked.budget_s + 1:
        notes.append(
            f"took {spent_s():.0f} s instead of {asked.budget_s:g}: loading, lowering and five "
            f"rounds need that"
        )
    return Report(model, kind, tuple(inputs), _describe_machine(), tuple(reports), tuple(notes))


def _describe_machine() -> dict[str, Any]:
    import torch

    from corestream import __version__

    budget = cpu_budget()
    return {
        "cpu": cpu_model(),
        "cpu_budget": budget.count,
        "cpu_budget_reasons": list(budget.reasons),
        "torch": torch.__version__,
        "corestream": __version__,
    }
