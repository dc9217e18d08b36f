"""Stock torch and corestream side by side on a real model and real text.

Each engine has a process of its own and the same load: 1 to 16 users, who ask for the embedding
of one sentence at a time. The two take turns, so that a busy machine slows both alike. The
sentences are tokenized beforehand: the model is what is compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from chart import draw
from engine import Engine
from report import print_loads, print_nearest
from results import Measurement, nearest, summarize
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from text import QUERY, load_sentences

ENGINES = ("stock torch", "corestream")
# Embeddings have length 1; fp32 sums of other order differ by some 1e-7.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Plan:
    num_sentences: int
    users: tuple[int, ...]
    rounds: int
    seconds: float


FULL = Plan(num_sentences=250, users=(1, 2, 4, 8, 16), rounds=2, seconds=2.5)
QUICK = Plan(num_sentences=40, users=(1, 2), rounds=1, seconds=0.3)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    output = Path(__file__).with_name("output")
    parser.add_argument("--output", type=Path, default=output, help="folder of the results")
    return parser.parse_args()


def measure(engines: list[Engine], plan: Plan, *, console: Console) -> list[Measurement]:
    """Every load on every engine, in turns; a progress bar where there is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    measurements = []
    with progress:
        total = len(plan.users) * plan.rounds * len(engines)
        bar = progress.add_task("", total=total)
        for users in plan.users:
            rounds = {engine.name: [] for engine in engines}
            for _ in range(plan.rounds):
                for engine in engines:
                    progress.update(bar, description=f"{users:2} users on {engine.name:11}")
                    rounds[engine.name].append(engine.load_up(users=users, seconds=plan.seconds))
                    progress.advance(bar)
            measurements += [summarize(name, users, rounds=each) for name, each in rounds.items()]
    return measurements


def main() -> int:
    arguments = parse_arguments()
    plan = QUICK if arguments.quick else FULL
    console = Console()
    sentences = load_sentences(plan.num_sentences)
    console.print(f"Loading MiniLM twice and embedding {len(sentences)} sentences ...")
    with ExitStack() as stack:
        engines = [stack.enter_context(Engine(name, [*sentences, QUERY])) for name in ENGINES]
        embeddings = {engine.name: np.array(engine.read()) for engine in engines}
        measurements = measure(engines, plan, console=console)

    found = {name: nearest(each, sentences, count=3) for name, each in embeddings.items()}
    stock, ours = (embeddings[name] for name in ENGINES)
    difference = float(np.abs(ours - stock).max())
    difference_under_load = max(each.max_difference for each in measurements)

    print_loads(console, measurements)
    print_nearest(console, QUERY, found=found)
    console.print(
        f"Largest difference of any number in {len(stock)} embeddings: {difference:.1e} between "
        f"the engines, {difference_under_load:.1e} between one user and many.",
        soft_wrap=True,
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    picture = arguments.output / "demo.png"
    draw(picture, measurements)
    results = {
        "measurements": [asdict(each) for each in measurements],
        "nearest": {name: [asdict(each) for each in near] for name, near in found.items()},
        "max_difference": difference,
        "max_difference_under_load": difference_under_load,
    }
    (arguments.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    console.print(f"Picture: {picture}", soft_wrap=True)
    return 0 if max(difference, difference_under_load) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
