"""Single checks at their edges; what whole environments give stands in golden/."""

from __future__ import annotations

from dataclasses import replace

import pytest

from corestream.cpu.budget import CPUBudget
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.machine import Topology
from corestream.doctor.checks import CHECKS, arithmetic, cpus, openmp, software, teams, threads
from corestream.doctor.facts import (
    Facts,
    FrequencyPolicy,
    MachineFacts,
    ProcessFacts,
    Relative,
    ServiceFacts,
    TeamFacts,
    ThreadFacts,
    Throttling,
)
from corestream.doctor.finding import Level
from tests.topologies.processes import LIBGOMP
from tests.unit.doctor.environments import SKLEARNS_LIBGOMP, timed, torch_says

FOUR = CPUSet.parse("0-3")


def facts(*, machine=None, process=None, **other) -> Facts:
    """Four CPUs, a process that imported torch and did nothing else, besides what is given."""
    budget = CPUBudget(count=4, allowed=FOUR, quota=None, reasons=("affinity mask",))
    usual = {"kind": "fresh", "environ": {}, "mask": FOUR, "openmp_runtimes": (LIBGOMP,)}
    return Facts(
        machine=MachineFacts(
            **({"topology": Topology.flat(FOUR), "budget": budget} | (machine or {}))
        ),
        process=ProcessFacts(**(usual | (process or {}))),
        **({"torch": torch_says(4, 4)} | other),
    )


def idle(name: str = "python", *, thread_id: int = 2, in_openmp: bool = True, **other):
    return ThreadFacts(
        thread_id=thread_id, name=name, cpus=FOUR, in_openmp=in_openmp, started_ticks=5, **other
    )


def test_nothing_known_raises_nowhere():
    bare = facts(process={"kind": "live", "environ": None, "mask": None, "openmp_runtimes": None})
    for nothing in (bare, replace(bare, torch=None), facts(torch=None)):
        for check in CHECKS:
            check(nothing)


@pytest.mark.parametrize(
    ("throttled", "level"), [(0, Level.OK), (10, Level.OK), (11, Level.WARN), (1000, Level.WARN)]
)
def test_one_period_in_a_hundred_is_felt(throttled, level):
    counter = Throttling(
        path="cpu.stat", num_periods=1000, num_throttled=throttled, throttled_s=1.0
    )
    assert cpus.throttling(facts(machine={"throttling": (counter,)})).level == level


@pytest.mark.parametrize(
    ("share", "level"), [(None, None), (0.01, Level.OK), (0.02, Level.NOTE), (0.06, Level.WARN)]
)
def test_steal(share, level):
    found = cpus.steal(facts(machine={"steal_share": share}))
    assert (found and found.level) == level


@pytest.mark.parametrize(
    ("governor", "driver", "preference", "level"),
    [
        ("powersave", "acpi-cpufreq", None, Level.WARN),
        ("powersave", "intel_pstate", None, Level.OK),
        ("powersave", "intel_pstate", "balance_performance", Level.OK),
        ("powersave", "amd-pstate-epp", "power", Level.WARN),
        ("schedutil", "acpi-cpufreq", None, Level.OK),
    ],
)
def test_powersave_is_slow_where_it_says_so(governor, driver, preference, level):
    policy = FrequencyPolicy(governor=governor, driver=driver, preference=preference, cpus=FOUR)
    assert cpus.governor(facts(machine={"frequency": (policy,)})).level == level


@pytest.mark.parametrize(
    ("environ", "mask", "level"),
    [
        ({}, "0", Level.OK),
        ({"OMP_PROC_BIND": "close"}, "0", Level.FAIL),
        ({"GOMP_CPU_AFFINITY": "0-3"}, "0", Level.FAIL),
        ({"OMP_PLACES": "sockets"}, "0-3", Level.WARN),
        ({"OMP_PROC_BIND": "false"}, "0", Level.OK),
        ({"KMP_AFFINITY": "compact"}, "0", Level.NOTE),
    ],
)
def test_a_collapsed_mask_fails_and_names_the_variable(environ, mask, level):
    process = {"environ": environ, "mask": CPUSet.parse(mask), "mask_before": FOUR}
    found = openmp.affinity(facts(process=process))
    assert found.level == level
    assert all(name in found.value for name in environ if level > Level.OK)


def test_kmp_affinity_counts_under_intels_runtime():
    process = {
        "environ": {"KMP_AFFINITY": "compact", "LD_PRELOAD": "/lib/libiomp5.so"},
        "openmp_runtimes": (LIBGOMP, "/lib/libiomp5.so"),
        "mask": CPUSet([0]),
        "mask_before": FOUR,
    }
    assert openmp.runtime_kind(facts(process=process)) == "libiomp5"
    assert openmp.affinity(facts(process=process)).level == Level.FAIL
    assert openmp.runtimes(facts(process=process)).level == Level.OK


def test_two_runtimes_are_named():
    found = openmp.runtimes(facts(process={"openmp_runtimes": (LIBGOMP, SKLEARNS_LIBGOMP)}))
    assert found.level == Level.WARN
    assert LIBGOMP in found.value
    assert SKLEARNS_LIBGOMP in found.value
    assert openmp.runtime_kind(facts(process={"openmp_runtimes": (SKLEARNS_LIBGOMP,)})) == "libgomp"


@pytest.mark.parametrize(("workers", "level"), [(3, Level.OK), (4, Level.WARN)])
def test_more_openmp_threads_than_cpus_are_throttled(workers, level):
    members = tuple(idle(thread_id=number) for number in range(2, 2 + workers))
    process = {"kind": "live", "process_id": 1, "threads": members}
    found = teams.teams(facts(process=process))
    assert found.level == level
    assert f"{workers + 1} OpenMP threads on 4 CPUs" in found.value


def test_other_runtimes_do_not_throttle():
    members = tuple(idle(thread_id=number) for number in range(2, 9))
    process = {"kind": "live", "process_id": 1, "threads": members}
    process["openmp_runtimes"] = ("/lib/libomp.so.5",)
    assert teams.teams(facts(process=process)).level == Level.OK


def test_a_team_larger_than_the_mask():
    big = facts(team=TeamFacts(size=8, spin_s=0.0, window_s=0.05))
    assert teams.teams(big).level == Level.WARN


@pytest.mark.parametrize(
    ("spin_ms", "quota", "level"),
    [(7, None, Level.OK), (50, None, Level.NOTE), (7, 2.0, Level.WARN), (0.1, 2.0, Level.OK)],
)
def test_spinning_matters_under_a_quota(spin_ms, quota, level):
    budget = CPUBudget(count=2, allowed=FOUR, quota=quota, reasons=())
    team = TeamFacts(size=2, spin_s=spin_ms / 1e3, window_s=0.05)
    found = teams.spinning(facts(machine={"budget": budget}, team=team))
    assert found.level == level
    assert f"{spin_ms:.1f} ms" in found.value


def test_the_way_to_wait_passively_is_the_runtimes_own():
    team = TeamFacts(size=2, spin_s=0.05, window_s=0.05)
    assert "OMP_WAIT_POLICY=passive" in teams.spinning(facts(team=team)).fix
    intel = facts(team=team, process={"openmp_runtimes": ("/lib/libiomp5.so",)})
    assert "KMP_BLOCKTIME=0" in teams.spinning(intel).fix


def test_busy_threads_are_named():
    busy = tuple(
        idle(f"worker {number}", thread_id=number, in_openmp=False, cpu_share=0.9 + number / 100)
        for number in range(5)
    )
    quiet = idle("http", thread_id=9, in_openmp=False, cpu_share=0.1)
    found = teams.spinning(facts(process={"kind": "live", "threads": (*busy, quiet)}))
    assert found.level == Level.WARN
    assert "5 of 6 threads busy: worker 4 4 94%" in found.value
    few = teams.spinning(facts(process={"kind": "live", "threads": (busy[0], quiet)}))
    assert few.level == Level.OK


def test_fork_after_the_main_threads_team():
    def found(*children: Relative, **other):
        main = ThreadFacts(thread_id=1, name="python", cpus=FOUR, in_openmp=False)
        members = (main, idle())
        process = {"kind": "live", "process_id": 1, "threads": members, "children": children}
        return teams.fork(facts(process=process, **other))

    before, after = (
        Relative(process_id=number, command=(), started_ticks=ticks)
        for number, ticks in ((8, 4), (9, 6))
    )
    assert found().level == Level.WARN
    assert found(before).level == Level.WARN
    assert found(before, after).level == Level.FAIL
    assert "children 9 were" in found(before, after).value


def test_fork_in_a_service_without_a_team():
    service = ServiceFacts(executors=(), other_workers={"http": 3}, main_name="python")
    process = {"kind": "own", "process_id": 1}
    assert teams.fork(facts(process=process, service=service)).level == Level.OK


def test_gunicorns_preload_is_a_danger():
    environ = {"GUNICORN_CMD_ARGS": "--preload -w 2"}
    assert teams.fork(facts(process={"environ": environ})).level == Level.WARN
    assert (
        "2 × 4 = 8 threads" in threads.oversubscription(facts(process={"environ": environ})).value
    )


@pytest.mark.parametrize(
    ("environ", "workers"),
    [
        ({}, None),
        ({"WEB_CONCURRENCY": "3"}, 3),
        ({"LOCAL_WORLD_SIZE": "2"}, 2),
        ({"GUNICORN_CMD_ARGS": "--workers=5"}, 5),
        ({"GUNICORN_CMD_ARGS": "--workers 0"}, None),
        ({"WEB_CONCURRENCY": "many"}, None),
    ],
)
def test_workers_are_counted(environ, workers):
    value = threads.oversubscription(facts(process={"environ": environ})).value
    assert value.startswith(f"{workers} × 4" if workers else "4 threads on a budget of 4 CPUs")


def test_who_was_told_wins():
    told = facts(process={"environ": {"WEB_CONCURRENCY": "3"}}, num_workers=2)
    assert (
        "2 × 4 = 8 threads on a budget of 4 CPUs (as told)" in threads.oversubscription(told).value
    )
    assert "OMP_NUM_THREADS=2 for each" in threads.oversubscription(told).fix


@pytest.mark.parametrize(
    ("workers", "cpus", "fix"),
    [
        (1, "0-1", "OMP_NUM_THREADS=2 before the start"),
        (2, "0-1", "OMP_NUM_THREADS=1 for each, CPUPool().slice(i, 2) in worker i"),
        # More instances or slices than CPUs would be refused.
        (4, "0-1", "at most 2 workers with OMP_NUM_THREADS=1 each, or one worker with 2 streams"),
        (4, "0", "one worker with OMP_NUM_THREADS=1, or"),
    ],
)
def test_the_fix_of_too_many_workers_can_be_followed(workers, cpus, fix):
    allowed = CPUSet.parse(cpus)
    budget = CPUBudget(count=len(allowed), allowed=allowed, quota=None, reasons=("cpuset",))
    found = threads.oversubscription(facts(machine={"budget": budget}, num_workers=workers))
    assert found.level == Level.WARN
    assert found.fix.startswith(fix)


@pytest.mark.parametrize(
    ("environ", "title", "level"),
    [
        ({"RAY_JOB_ID": "", "OMP_NUM_THREADS": "1"}, "Ray's thread count", Level.WARN),
        ({"RAY_JOB_ID": "", "OMP_NUM_THREADS": "4"}, "Ray's thread count", Level.OK),
        ({"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}, "torchrun's thread count", Level.WARN),
        ({"OMP_NUM_THREADS": "1"}, None, None),
    ],
)
def test_an_inherited_single_thread(environ, title, level):
    found = threads.inherited_count(facts(process={"environ": environ}))
    assert (found and (found.title, found.level)) == (title and (title, level))


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({"OMP_THREAD_LIMIT": "2"}, Level.FAIL),
        ({"OMP_THREAD_LIMIT": "4"}, Level.OK),
        ({"OMP_THREAD_LIMIT": "4", "OMP_NUM_THREADS": "8"}, Level.FAIL),
        ({"OMP_DYNAMIC": "true"}, Level.FAIL),
        ({}, None),
    ],
)
def test_a_limit_below_the_team(environ, level):
    found = threads.thread_limit(facts(process={"environ": environ}))
    assert (found and found.level) == level


def test_the_order_of_precedence_is_told():
    environ = {"MKL_NUM_THREADS": "4", "OMP_NUM_THREADS": "2"}
    found = threads.intra_op(facts(process={"environ": environ}))
    assert found.value == "4, set by MKL_NUM_THREADS=4"
    assert "OMP_NUM_THREADS=2 lost" in found.explanation
    api = threads.intra_op(facts(torch=torch_says(3, 4)))
    assert api.value == "3, set by the API (torch.set_num_threads)"


def test_inter_op_above_the_budget():
    found = threads.inter_op(facts(torch=torch_says(4, 4)))
    assert found.level == Level.OK
    assert "set by the API" in threads.inter_op(facts(torch=torch_says(4, 9))).value
    assert threads.inter_op(facts(torch=torch_says(4, 9))).level == Level.NOTE


def product(name: str, **times):
    names = ("fp32", "fp32 oneDNN", "bf16", "fp16", "int8")
    checks = dict(zip(names, arithmetic.PRODUCTS, strict=True))
    return checks[name](facts(products=timed(2.0, **times)))


@pytest.mark.parametrize(("factor", "level"), [(1.2, Level.OK), (2.0, Level.WARN)])
def test_fp32_through_mkl(factor, level):
    found = product("fp32", fp32_oneDNN=factor)
    assert found.level == level
    assert level == Level.OK or "at 50% of oneDNN's speed through MKL" in found.value


def test_a_slow_dtype_shows_its_ratio():
    assert "fp16 is 37× slower than fp32 here" in product("fp16", fp16=1 / 37).value
    assert product("bf16", bf16=4.0).value == "0.5 ms, 4× as fast as fp32"
    assert product("bf16", bf16=0.9).level == Level.OK  # as good as equal


def test_a_missing_dtype_says_why():
    broken = replace(
        timed(2.0, int8=1.0)["int8"], median_s=None, times_as_fast=None, error="no kernel"
    )
    (check,) = arithmetic.PRODUCTS[-1:]
    assert check(facts(products={"int8": broken})).value == "not available: no kernel"


@pytest.mark.parametrize(
    ("built", "level"), [("2.13.1", Level.OK), ("2.12.0", Level.FAIL), (None, Level.WARN)]
)
def test_the_native_part_fits_torch(built, level):
    torch = replace(torch_says(4, 4), built_against=built)
    assert software.versions(facts(torch=torch)).level == level
