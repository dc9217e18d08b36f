"""Thread counts are swept in another process; this one keeps its own."""

from __future__ import annotations

import os

import pytest
import torch

from corestream import CPUPool, pin
from corestream.cpu.budget import cpu_budget
from corestream.measure.process import MisuseError
from corestream.tuning.threads import ThreadPoint, ThreadSweep, sweep_threads, thread_counts


def sweep_of(*medians: float, num_cpus: int) -> ThreadSweep:
    points = tuple(
        ThreadPoint(count, (0.9 * ms, ms, 1.2 * ms)) for count, ms in enumerate(medians, start=1)
    )
    return ThreadSweep("matmul", num_cpus, num_cpus, points)


@pytest.mark.parametrize("num_cpus", [1, 2, 5, 24, 64, 128, 500])
def test_counts_go_to_twice_the_cpus_and_are_few(num_cpus):
    counts = thread_counts(num_cpus)
    assert counts == sorted(set(counts))
    assert (counts[0], counts[-1]) == (1, 2 * num_cpus)
    assert num_cpus in counts
    assert any(count > num_cpus for count in counts)
    assert len(counts) <= 30
    assert thread_counts(num_cpus, at_most=1) == [1]


def test_the_best_and_oversubscription_are_marked():
    sweep = sweep_of(20.0, 10.0, 10.5, 40.0, num_cpus=3)
    assert sweep.best.num_threads == 2
    lines = str(sweep).splitlines()
    assert [line.split()[0] for line in lines if "best" in line and "<-" in line] == ["2"]
    assert [line.split()[0] for line in lines if "<- oversubscribed" in line] == ["4"]
    assert "4 threads take 3.81 times as long as 3" in lines[-1]


def test_fewer_threads_that_do_as_well_are_named():
    sweep = sweep_of(10.2, 10.0, num_cpus=2)
    assert sweep.best.num_threads == 2
    assert sweep.enough.num_threads == 1
    assert "1 threads are within 5 % of that" in str(sweep)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_figure_is_drawn(ending, tmp_path):
    sweep = sweep_of(*(100.0 / min(n, 24) for n in range(1, 49)), num_cpus=24)
    assert sweep.plot(tmp_path / f"a.{ending}").stat().st_size > 1000


def test_a_real_sweep_leaves_this_process_alone():
    threads, mask = torch.get_num_threads(), os.sched_getaffinity(0)
    told: list[str] = []
    with pin(CPUPool([min(mask)])):
        sweep = sweep_threads(
            op="sigmoid", size=64, budget_s=0.1, progress=lambda text, share: told.append(text)
        )
    assert [point.num_threads for point in sweep.points] == thread_counts(cpu_budget().count)
    assert all(len(point.samples_ms) >= 3 for point in sweep.points)
    assert all(ms > 0 for point in sweep.points for ms in point.samples_ms)
    # The parent was pinned to one CPU; the child is not, so that its default is all of them.
    assert sweep.default_threads == len(mask)
    assert (torch.get_num_threads(), os.sched_getaffinity(0)) == (threads, mask)
    assert told[0] == "loading"


def test_a_model_is_swept():
    sweep = sweep_threads("torch.nn:ReLU", ["4x8"], max_threads=2, budget_s=0.1)
    assert sweep.subject == "torch.nn:ReLU with 4x8"
    assert [point.num_threads for point in sweep.points] == [1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"op": "conv"}, "op must be one of"),
        ({"size": 0}, "size must be"),
        ({"max_threads": 0}, "max_threads must be"),
        ({"budget_s": 0}, "budget_s must be above 0"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sweep_threads(**options)


def test_a_model_that_is_not_there_is_the_users_mistake():
    with pytest.raises(MisuseError, match="model must"):
        sweep_threads("no_such_module:model", ["4x8"], budget_s=0.1)
