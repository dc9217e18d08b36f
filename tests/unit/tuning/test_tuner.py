"""The course of a tuning, on machines and clocks that exist on paper."""

from __future__ import annotations

import pytest

from corestream.tuning.finals import judge
from corestream.tuning.objective import Objective
from corestream.tuning.search import make_search
from corestream.tuning.setting import STOCK, Measurement, Setting
from corestream.tuning.space import SearchSpace
from corestream.tuning.tuner import CannotRun, Plan, Tuner
from tests.unit.tuning.machines import FakeClock, PaperMachine, PaperMeasurer

THROUGHPUT = Objective.parse("throughput")


def space_of(num_cores: int = 4, *, backends: tuple[str, ...] = ("torchscript",)) -> SearchSpace:
    return SearchSpace(
        num_cores=num_cores,
        batch_sizes=(1, 4, 16),
        backends=backends,
        stock_threads=num_cores,
    )


def tuned(
    measurer: PaperMeasurer,
    space: SearchSpace,
    *,
    budget_s: float = 60.0,
    objective: Objective = THROUGHPUT,
):
    search = make_search(space, seed=0, notes=[])
    plan = Plan(space=space, search=search, objective=objective, budget_s=budget_s)
    told: list[tuple[str, float]] = []
    course = Tuner(
        plan,
        measurer=measurer,
        now=measurer.clock.now,
        on_progress=lambda text, share: told.append((text, share)),
    ).run()
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert all(0 <= share <= 1 for _, share in told)
    return course


def measurer_of(machine: PaperMachine | None = None, **options: object) -> PaperMeasurer:
    return PaperMeasurer(machine or PaperMachine(num_cores=4), FakeClock(), **options)


@pytest.mark.parametrize("budget_s", [3.0, 10.0, 60.0, 600.0])
@pytest.mark.parametrize("num_cores", [2, 16, 128])
def test_the_time_is_kept(budget_s, num_cores):
    measurer = measurer_of(PaperMachine(num_cores=num_cores))
    course = tuned(measurer, space_of(num_cores), budget_s=budget_s)
    assert course.elapsed_s <= budget_s
    assert course.verdict.streams is not None


def test_slow_calls_make_fewer_trials_and_rounds_but_keep_the_time():
    machine = PaperMachine(num_cores=4, item_ms=2000.0)
    course = tuned(measurer_of(machine), space_of(), budget_s=60.0)
    assert course.elapsed_s <= 60.0
    assert len(course.measured) < len(space_of())
    assert any(note.startswith(f"{len(course.measured)} of ") for note in course.notes)


def test_one_call_that_is_longer_than_the_time_gives_no_verdict():
    machine = PaperMachine(num_cores=4, item_ms=90_000.0)
    course = tuned(measurer_of(machine), space_of(), budget_s=5.0)
    assert course.verdict.recommended.is_stock
    assert not course.verdict.is_beyond_noise


def test_batches_that_would_be_late_are_left_out_and_named():
    machine = PaperMachine(num_cores=4, item_ms=800.0)
    course = tuned(measurer_of(machine), space_of(), budget_s=60.0)
    assert course.elapsed_s <= 60.0
    assert any("not tried for want of time: batches of 16" in note for note in course.notes)
    assert course.verdict.streams is not None


def test_a_lowering_that_would_be_late_is_not_begun_and_named():
    measurer = measurer_of(lowering_s={"aotinductor": 40.0}, per_team_size={"aotinductor"})
    space = space_of(backends=("torchscript", "aotinductor"))
    course = tuned(measurer, space, budget_s=30.0)
    assert course.elapsed_s <= 30.0
    assert not any(one.backend == "aotinductor" for one in course.measured)
    assert any("not tried for want of time: aotinductor" in note for note in course.notes)
    reasons = [text for one, text in course.reasons.items() if one.backend == "aotinductor"]
    assert reasons
    assert all("takes about 40 s" in text for text in reasons)


def test_a_lowering_that_fits_is_tried():
    measurer = measurer_of(
        PaperMachine(num_cores=4, backend_factors=(("torchscript", 1.0), ("aotinductor", 0.5))),
        lowering_s={"aotinductor": 40.0},
        per_team_size={"aotinductor"},
    )
    space = space_of(backends=("torchscript", "aotinductor"))
    course = tuned(measurer, space, budget_s=300.0)
    assert course.elapsed_s <= 300.0
    assert course.verdict.recommended.backend == "aotinductor"


def test_stock_is_recommended_where_streams_lose():
    course = tuned(measurer_of(PaperMachine(num_cores=4, stock_factor=0.2)), space_of())
    assert course.verdict.recommended.is_stock
    assert course.verdict.streams is not None
    assert course.verdict.is_beyond_noise
    assert "stay with stock" in course.verdict.text


def test_finalists_take_turns_with_stock():
    measurer = measurer_of()
    course = tuned(measurer, space_of(), budget_s=20.0)
    finals = measurer.log[-len(course.finalists) * 3 :]
    count = len(course.finalists)
    assert course.finalists[0].is_stock
    assert finals == list(course.finalists) * 3
    assert {len(course.measured[one]) for one in course.finalists} == {
        len(course.measured[course.finalists[0]])
    }
    assert count >= 3


def test_what_breaks_is_left_out_with_its_reason():
    measurer = measurer_of(
        PaperMachine(num_cores=4, backend_factors=(("torchscript", 1.0), ("eager", 0.7))),
        fails=lambda one: one.backend == "torchscript",
    )
    course = tuned(measurer, space_of(backends=("torchscript", "eager")))
    assert course.verdict.recommended.backend == "eager"
    assert all(
        "it broke" in course.reasons[one] for one in course.reasons if one.backend == "torchscript"
    )


def test_a_finalist_that_breaks_later_is_out_and_noted():
    breaks: list[Setting] = []

    def fails(one: Setting) -> bool:
        # The best breaks when it comes again.
        if not breaks and not one.is_stock and measurer.log.count(one) > 1:
            breaks.append(one)
        return one in breaks

    measurer = measurer_of()
    measurer.fails = fails
    course = tuned(measurer, space_of())
    assert breaks
    assert breaks[0] not in course.finalists
    assert not course.verdict.recommended.is_stock
    assert any("failed when it was compared" in note for note in course.notes)


def test_without_streams_that_run_stock_stays():
    course = tuned(measurer_of(fails=lambda one: not one.is_stock), space_of())
    assert course.verdict.recommended.is_stock
    assert course.verdict.streams is None


def test_a_model_that_does_not_run_at_all_is_an_error():
    with pytest.raises(CannotRun, match="it broke"):
        tuned(measurer_of(fails=lambda one: one.is_stock), space_of())


def test_a_limit_that_nothing_keeps_to_is_said():
    course = tuned(measurer_of(), space_of(), objective=Objective.parse("p99<=0.001 ms"))
    assert not course.is_met
    assert any("nothing met p99<=0.001 ms" in note for note in course.notes)


def test_a_limit_excludes_faster_settings_that_exceed_it():
    machine = PaperMachine(num_cores=4, dispatch_ms=5.0)
    free = tuned(measurer_of(machine), space_of()).verdict.recommended
    limit_ms = machine.measurement(free).p99_ms / 2
    bound = tuned(
        measurer_of(machine), space_of(), objective=Objective.parse(f"p99<={limit_ms} ms")
    )
    assert bound.is_met
    assert machine.measurement(bound.verdict.recommended).p99_ms <= limit_ms


STREAMS = Setting(num_streams=2, team_size=2, batch_size=8, backend="torchscript")
SMALLER = Setting(num_streams=2, team_size=1, batch_size=1, backend="torchscript")
STOCK_4 = Setting(num_streams=1, team_size=4, batch_size=8, backend=STOCK)


def rounds(*rates: float) -> list[Measurement]:
    return [Measurement(items_per_s=rate, p50_ms=1.0, p99_ms=2.0) for rate in rates]


def verdict_of(taken):
    return judge(taken, objective=THROUGHPUT, is_open=False)


def test_a_difference_within_noise_is_none():
    verdict = verdict_of({STOCK_4: rounds(100, 130, 90, 110), STREAMS: rounds(120, 100, 115, 95)})
    assert verdict.recommended == STOCK_4
    assert verdict.streams == STREAMS
    assert not verdict.is_beyond_noise
    assert "no difference to stock beyond noise" in verdict.text


def test_a_difference_beyond_noise_is_one_also_on_a_machine_that_slows_down():
    verdict = verdict_of({STOCK_4: rounds(100, 50, 25), STREAMS: rounds(150, 76, 38)})
    assert verdict.recommended == STREAMS
    assert verdict.is_beyond_noise
    assert verdict.text.startswith("1.52 times the throughput of stock")


def test_of_equally_good_settings_the_one_with_fewest_cores_is_taken():
    verdict = verdict_of(
        {
            STOCK_4: rounds(100, 100, 100),
            STREAMS: rounds(200, 200, 200),
            SMALLER: rounds(199, 199, 199),
        }
    )
    assert verdict.recommended == SMALLER


def test_too_few_rounds_are_no_verdict():
    verdict = verdict_of({STOCK_4: rounds(100), STREAMS: rounds(300)})
    assert verdict.recommended == STOCK_4
    assert "too few to tell it from noise" in verdict.text


def test_where_only_streams_keep_to_the_limit_they_are_recommended():
    objective = Objective.parse("p99<=5 ms")
    slow = [Measurement(items_per_s=100.0, p50_ms=9.0, p99_ms=20.0)] * 3
    verdict = judge(
        {STOCK_4: slow, STREAMS: rounds(50, 50, 50)}, objective=objective, is_open=False
    )
    assert verdict.recommended == STREAMS
    assert verdict.text.startswith("stock does not meet p99<=5 ms")
