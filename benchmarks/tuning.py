"""Does `tune` find what an exhaustive sweep finds, and is AUTO better than a stream per core?

``python -m benchmarks tuning`` does all of it. In pieces, which add up in results/tuning-runs.json:

    python -m benchmarks.tuning runs --runs 2     # two tunings, each against a sweep of its own
    python -m benchmarks.tuning auto --model MLP  # AUTO against a stream per core, one model
    python -m benchmarks.tuning show              # what there is so far
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

import corestream
from benchmarks.measure import Effort, Spread, interleave, percentile, spread
from benchmarks.models import Inputs, build, example_inputs
from benchmarks.report import RESULTS, Report, Row, Target, print_report
from corestream.cpu.pool import CPUPool
from corestream.measure.inputs import ModelInputs
from corestream.measure.timing import compare_times
from corestream.tuning.api import tune
from corestream.tuning.measurer import Load, StreamMeasurer, stock_threads
from corestream.tuning.setting import STOCK, Setting, Trial
from corestream.tuning.space import SearchSpace

NAME = "tuning"
TITLE = "the settings that tune chooses, the streams that AUTO makes"

FILE = RESULTS / "tuning-runs.json"

# A space that a sweep of all of it gets through in less than a minute on two cores.
SIZES = (1, 4, 16)
BACKEND = "torchscript"
TUNED = ("MobileNetV2", "MiniLM")

MODELS = ("MobileNetV2", "ResNet-50", "MiniLM", "MLP")
BATCHES = (1, 16)

WITHIN = 0.95


def big_mlp() -> nn.Module:
    """Three layers of 64 MiB each: more than any L3 holds, with little arithmetic for an item."""
    torch.manual_seed(0)
    layers = [layer for _ in range(3) for layer in (nn.Linear(4096, 4096), nn.ReLU())]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def model_and_inputs(name: str, *, batch: int) -> tuple[nn.Module, Inputs]:
    if name == "MLP":
        return big_mlp(), (torch.rand(batch, 4096),)
    return build(name, dtype="fp32"), example_inputs(name, batch=batch, dtype="fp32")


def one_run(name: str, *, budget_s: float, seed: int, seconds: float) -> dict[str, Any]:
    """A tuning, a sweep over every setting of its space, and the two winners in turns.

    That last comparison is what counts: the best of a sweep owes its figure to luck as well.
    """
    model, inputs = model_and_inputs(name, batch=4)
    pool = CPUPool()
    found = tune(
        model,
        inputs,
        budget_s=budget_s,
        batch_sizes=SIZES,
        backends=[BACKEND],
        seed=seed,
        save=False,
        progress=False,
    )
    space = SearchSpace(
        num_cores=len(pool), batch_sizes=SIZES, backends=(BACKEND,), stock_threads=stock_threads()
    )
    measurer = StreamMeasurer(
        model, ModelInputs.of(inputs), space=space, pool=pool, load=Load(), cache=False
    )

    def rates(settings: Sequence[Setting], *, rounds: int) -> dict[Setting, list[float]]:
        for setting in settings:
            measurer.prepare(setting)
        turns: dict[str, Callable[[], float]] = {
            str(setting): lambda one=setting: measurer.measure(one, seconds=seconds).items_per_s
            for setting in settings
        }
        taken = interleave(turns, rounds=rounds)
        return {setting: taken[str(setting)] for setting in settings}

    swept = rates(space.settings, rounds=2)
    best = max(swept, key=lambda one: statistics.median(swept[one]))
    chosen = found.recommended
    share = 1.0
    if chosen != best:
        final = rates((chosen, best), rounds=5)
        share = statistics.median(
            ours / theirs for ours, theirs in zip(final[chosen], final[best], strict=True)
        )
    stock = max(statistics.median(taken) for one, taken in swept.items() if one.backend == STOCK)
    return {
        "model": name,
        "chosen": str(chosen),
        "best": str(best),
        "share": share,
        "over_stock": statistics.median(swept[chosen]) / stock,
        "settings": len(space),
        "measured": sum(bool(trial.measurements) for trial in found.trials),
        "elapsed_s": found.elapsed_s,
        "budget_s": budget_s,
        "noise": _noise(found.trials),
    }


def _noise(trials: Sequence[Trial]) -> float:
    """How far the rounds of a finalist are apart, in the middle."""
    return statistics.median(trial.spread for trial in trials if trial.is_finalist)


def compare_auto(name: str, *, batch: int, rounds: int) -> dict[str, Any]:
    """A call of MultiStreamModule with AUTO's streams against one with a stream per core.

    Where AUTO makes a stream per core, against the other extreme: one stream of all cores.
    """
    model, inputs = model_and_inputs(name, batch=batch)
    pool = CPUPool()
    chosen = corestream.lower(model, inputs, backend=BACKEND, progress=False)
    auto = chosen.report.num_streams
    counts = {"auto": auto, "other": len(pool) if auto != len(pool) else 1}
    taken: dict[str, list[float]] = {kind: [] for kind in counts}
    lowered = {
        kind: corestream.lower(model, inputs, backend=BACKEND, num_streams=count, progress=False)
        for kind, count in counts.items()
    }
    for _, kind in itertools.product(range(rounds), counts):
        streams = corestream.MultiStreamModule(lowered[kind], counts[kind], pool)
        with torch.inference_mode():
            streams.warm_up(*inputs)
            call = {kind: lambda streams=streams: streams(*inputs)}
            timing = compare_times(call, rounds=5, budget_s=1.0)[kind]
        streams.executor.shutdown()
        taken[kind].append(timing.median_s)
    gains = [theirs / ours for ours, theirs in zip(taken["auto"], taken["other"], strict=True)]
    return {
        "model": name,
        "batch": batch,
        "auto": counts["auto"],
        "other": counts["other"],
        "cores": len(pool),
        "auto_ms": 1e3 * statistics.median(taken["auto"]),
        "gains": gains,
    }


def read() -> dict[str, list[dict[str, Any]]]:
    if not FILE.exists():
        return {"runs": [], "auto": []}
    found: dict[str, list[dict[str, Any]]] = json.loads(FILE.read_text())
    return found


def add(kind: str, entry: dict[str, Any]) -> None:
    found = read()
    found[kind].append(entry)
    RESULTS.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(found, indent=1) + "\n")


def report(found: dict[str, list[dict[str, Any]]]) -> Report:
    rows = []
    for entry in found["auto"]:
        is_per_core = entry["other"] == entry["cores"]
        other = "a stream per core" if is_per_core else "one stream"
        name = f"{entry['model']}, batch {entry['batch']}: AUTO's rate over that of {other}"
        notes = {
            "streams": f"{entry['auto']} against {entry['other']}",
            "call": f"{entry['auto_ms']:.3g} ms",
        }
        rows.append(Row(name, spread(entry["gains"]), "×", Target(at_least=WITHIN), notes))
    runs = found["runs"]
    for number, entry in enumerate(runs, start=1):
        notes = {
            "chosen": entry["chosen"],
            "best of the sweep": entry["best"],
            "settings": f"{entry['measured']} of {entry['settings']}",
            "time": f"{entry['elapsed_s']:.0f} of {entry['budget_s']:.0f} s",
        }
        share = spread([entry["share"]])
        rows.append(
            Row(f"run {number}, {entry['model']}: chosen over best", share, "×", None, notes)
        )
    if runs:
        shares = [entry["share"] for entry in runs]
        within = sum(share >= WITHIN for share in shares) / len(shares)
        summary = Spread(within, percentile(shares, 10), percentile(shares, 90), len(shares))
        rows.append(
            Row("runs within 5 % of the sweep's best", summary, "of all", Target(at_least=0.9))
        )
    remarks = (
        f"{len(runs)} runs; of the last row the spread is that of the shares. Closed loop, a user "
        f"for each stream; batches {SIZES}; {BACKEND}."
    )
    return Report(NAME, TITLE, rows, [remarks])


def run(effort: Effort) -> Report:
    """All of it, for `python -m benchmarks`."""
    found: dict[str, list[dict[str, Any]]] = {"runs": [], "auto": []}
    models = MODELS[-1:] if effort.is_quick else MODELS
    for name, batch in itertools.product(models, BATCHES):
        found["auto"].append(compare_auto(name, batch=batch, rounds=effort.rounds))
    for number in range(1 if effort.is_quick else 10):
        name = TUNED[number % len(TUNED)]
        budget_s, seconds = (4.0, 0.1) if effort.is_quick else (20.0, 0.5)
        found["runs"].append(one_run(name, budget_s=budget_s, seed=number, seconds=seconds))
    return report(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("runs", "auto", "show", "forget"))
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--model", choices=MODELS, help="all; of `runs` the two in turn")
    parser.add_argument("--batch", type=int, choices=BATCHES, help="of `auto`; all")
    parser.add_argument("--budget-s", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if asked.what == "forget":
        FILE.unlink(missing_ok=True)
        return
    if asked.what == "runs":
        for _ in range(asked.runs):
            number = len(read()["runs"])
            name = asked.model or TUNED[number % len(TUNED)]
            add("runs", one_run(name, budget_s=asked.budget_s, seed=number, seconds=0.5))
    if asked.what == "auto":
        models = (asked.model,) if asked.model else MODELS
        batches = (asked.batch,) if asked.batch else BATCHES
        for name, batch in itertools.product(models, batches):
            add("auto", compare_auto(name, batch=batch, rounds=asked.rounds))
    print_report(report(read()))


if __name__ == "__main__":
    main()
