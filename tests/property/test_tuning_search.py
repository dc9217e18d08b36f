"""The search finds what an exhaustive sweep would, on machines that exist on paper."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corestream.tuning.objective import Objective
from corestream.tuning.search import make_search
from corestream.tuning.space import SearchSpace
from corestream.tuning.tuner import Plan, Tuner
from tests.unit.tuning.machines import FakeClock, PaperMachine, PaperMeasurer

BATCHES = (1, 2, 4, 8, 16, 32)


def machines(cores: Sequence[int]) -> st.SearchStrategy[PaperMachine]:
    return st.builds(
        PaperMachine,
        num_cores=st.sampled_from(cores),
        barrier_ms=st.floats(0.005, 0.5),
        dispatch_ms=st.floats(0.01, 0.5),
        item_ms=st.floats(0.1, 50.0),
        weights_ms=st.floats(0.01, 50.0),
        memory_cores=st.floats(2.0, 32.0),
        serial=st.floats(0.0, 0.1),
        stock_factor=st.floats(0.8, 3.0),
        backend_factors=st.tuples(
            st.tuples(st.just("torchscript"), st.floats(0.8, 1.2)),
            st.tuples(st.just("aotinductor"), st.floats(0.8, 1.2)),
        ),
    )


def loss(machine: PaperMachine, objective: str, *, noise: float, budget_s: float = 120.0) -> float:
    """How much worse what is recommended is than the best there is, were there no noise."""
    space = SearchSpace(
        num_cores=machine.num_cores,
        batch_sizes=BATCHES,
        backends=("torchscript", "aotinductor"),
        stock_threads=machine.num_cores,
        request_items=8 if objective == "latency" else None,
    )
    goal = Objective.parse(objective)
    clock = FakeClock()
    measurer = PaperMeasurer(machine, clock, noise=noise)
    plan = Plan(
        space=space, search=make_search(space, seed=0, notes=[]), objective=goal, budget_s=budget_s
    )
    course = Tuner(plan, measurer=measurer, now=clock.now).run()

    def cost(setting):
        return goal.cost(machine.measurement(setting))

    return cost(course.verdict.recommended) / min(map(cost, space.settings)) - 1


@pytest.mark.parametrize("objective", ["throughput", "latency"])
@settings(max_examples=60, deadline=None)
@given(machine=machines([1, 2, 4, 6, 8, 12, 16]))
def test_within_five_per_cent_of_the_best_on_small_machines(objective, machine):
    # Streams that are no better than stock beyond noise are not recommended: 2 % on top.
    assert loss(machine, objective, noise=0.005) < 0.05 + 0.02


@settings(max_examples=20, deadline=None)
@given(machine=machines([24, 32, 64, 96, 128]))
def test_within_five_per_cent_of_the_best_on_large_machines(machine):
    assert loss(machine, "throughput", noise=0.005) < 0.05 + 0.02
