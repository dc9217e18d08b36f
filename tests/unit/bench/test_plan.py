"""What is measured follows from options and cores, before anything runs."""

from __future__ import annotations

import pytest

from corestream.bench.plan import Load, Options, make_plans
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.override import override_allowed
from corestream.cpu.pool import CPUPool


def plans(options: Options, *, num_cores: int = 16):
    with override_allowed(CPUSet(range(num_cores))):
        return make_plans(options, pool=CPUPool())


def test_the_modes_of_the_seeds_on_sixteen_cores():
    offline, realtime = plans(Options())
    assert (offline.mode, offline.batch_size, offline.num_streams) == ("offline", None, None)
    assert offline.core_ids == tuple(range(16))
    assert [load.label for load in offline.loads] == ["1 user"]
    assert (realtime.batch_size, realtime.num_streams, realtime.team_size) == (1, 4, 4)
    assert [load.label for load in realtime.loads] == ["1 user", "4 users", "16 users", "70 % load"]
    assert [contender.name for contender in realtime.contenders] == ["stock", "corestream"]


@pytest.mark.parametrize(
    ("options", "num_cores", "expected"),
    [
        (Options(), 2, (1, 2, 2)),  # 4 cores a stream, capped
        (Options(), 7, (1, 4, 4)),  # the rest is left alone
        (Options(cores_per_stream=2), 7, (3, 2, 6)),
        (Options(num_streams=5), 16, (5, 3, 15)),
        (Options(num_streams=2), 16, (2, 4, 8)),
        (Options(num_streams=2, cores_per_stream=8), 16, (2, 8, 16)),
    ],
)
def test_streams_of_realtime_mode(options, num_cores, expected):
    plan = plans(options, num_cores=num_cores)[-1]
    assert (plan.num_streams, plan.team_size, len(plan.core_ids)) == expected


def test_instances_have_cores_of_their_own():
    options = Options(modes=("realtime",), also=("instances", "threads", "compile"))
    (plan,) = plans(options)
    names = [contender.name for contender in plan.contenders]
    assert names == ["stock", "corestream", "threads", "instances", "compile"]
    instances = plan.contenders[3]
    assert instances.slices == tuple(tuple(range(i, i + 4)) for i in range(0, 16, 4))
    assert instances.num_threads == plan.contenders[2].num_threads == 4
    assert plan.contenders[0].slices == ((),)


def test_loads_that_are_asked_for():
    (plan,) = plans(Options(modes=("realtime",), users=(2, 8), rate_per_s=12.5))
    assert plan.loads == (Load(users=2), Load(users=8), Load(rate_per_s=12.5))
    (plan,) = plans(Options(modes=("realtime",), users=(2,), load=0))
    assert plan.loads == (Load(users=2),)
    (plan,) = plans(Options(modes=("offline",), load=0.5))
    assert [load.label for load in plan.loads] == ["1 user", "50 % load"]
    assert [load.is_open for load in plan.loads] == [False, True]
    assert plan.num_turns == 4


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (Options(modes=("live",)), "mode must be one of offline, realtime; got 'live'"),
        (Options(also=("ipex",)), "also must be one of threads, instances, compile; got 'ipex'"),
        (Options(backend="onnx"), "backend must be one of auto, aotinductor"),
        (Options(dtype="int8"), "dtype must be one of auto, float32"),
        (Options(users=(0,)), "users must be at least 1; got 0"),
        (Options(batch_size=0), "batch_size must be at least 1"),
        (Options(num_streams=17), "num_streams must be at most 16"),
        (Options(cores_per_stream=17), "cores_per_stream must be at most 16"),
        (Options(cores_per_stream=8, num_streams=3), "num_streams must leave each stream its"),
        (Options(load=1.0), "load must be from 0 to below 1"),
        (Options(rate_per_s=0), "rate must be above 0"),
        (Options(budget_s=0), "budget_s must be above 0"),
        (Options(rounds=0), "rounds must be at least 1"),
    ],
)
def test_what_cannot_be_asked_for(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        plans(options)
