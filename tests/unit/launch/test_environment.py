"""What the launcher does to the environment, and what it leaves to the user."""

from __future__ import annotations

import pytest

from corestream.cpu import CPUSet
from corestream.cpu.openmp import AFFINITY_VARIABLES
from corestream.launch import LaunchOptions, make_plan
from tests.unit.launch.machines import flat, plan_on

JEMALLOC = "/usr/lib/libjemalloc.so.2"


def changes(environ: dict[str, str] | None = None, **asked) -> dict[str, tuple[str, str]]:
    """(action, value) by variable, of the first instance of a plan on four CPUs."""
    (first, *_) = plan_on(flat(4), environ, **asked).instances
    return {change.name: (change.action, change.value) for change in first.changes}


def with_allocator(environ: dict[str, str], path: str | None = JEMALLOC, allocator="jemalloc"):
    known = flat(4)
    options = LaunchOptions(command=("x",), allocator=allocator)
    plan = make_plan(
        options,
        topology=known.topology,
        budget=known.budget,
        environ=environ,
        allocator_path=path,
    )
    return {c.name: (c.action, c.value) for c in plan.instances[0].changes}


def test_only_the_thread_count_is_set_by_default():
    assert changes() == {"OMP_NUM_THREADS": ("set", "4")}
    assert changes(instances=2) == {
        "OMP_NUM_THREADS": ("set", "2"),
        "CORESTREAM_INSTANCE_INDEX": ("set", "0"),
        "CORESTREAM_NUM_INSTANCES": ("set", "2"),
    }


def test_an_empty_variable_is_none():
    assert changes({"OMP_NUM_THREADS": ""}) == {"OMP_NUM_THREADS": ("set", "4")}


def test_a_command_is_words():
    with pytest.raises(TypeError, match="command must be a tuple of words; got 'serve"):
        make_plan(
            LaunchOptions(command="serve.py -x"),
            topology=flat(1).topology,
            budget=flat(1).budget,
            environ={},
        )
    with pytest.raises(ValueError, match="command must name a program; got none"):
        make_plan(
            LaunchOptions(command=()), topology=flat(1).topology, budget=flat(1).budget, environ={}
        )


def test_every_other_variable_is_passed_on():
    environ = {"HOME": "/root", "OMP_PROC_BIND": "true", "LD_PRELOAD": "/a.so"}
    (instance,) = plan_on(flat(4), environ).instances
    assert instance.environ(environ) == environ | {"OMP_NUM_THREADS": "4"}


@pytest.mark.parametrize("name", AFFINITY_VARIABLES)
def test_variables_that_move_threads_are_never_set_but_told(name):
    assert name not in changes(wait="active", spin_count=1, smt=True, instances=2)
    environ = {name: "0-3"}
    plan = plan_on(flat(4), environ)
    assert f"{name}=0-3 is yours and stays" in plan.notices()[0]
    assert plan.instances[0].environ(environ)[name] == "0-3"


@pytest.mark.parametrize(
    "environ", [{"OMP_PROC_BIND": "FALSE"}, {"KMP_AFFINITY": "disabled"}, {"OMP_PLACES": ""}]
)
def test_variables_that_move_nothing_are_not_told(environ):
    assert plan_on(flat(4), environ).notices() == []


def test_what_only_follows_leaves_the_users_own_and_says_so():
    plan = plan_on(flat(4), {"OMP_NUM_THREADS": "1"}, instances=2)
    assert plan.notices() == ["OMP_NUM_THREADS=1 is yours and stays (CPUs of the instance: 2)"]
    assert plan.instances[1].environ({"OMP_NUM_THREADS": "1"})["OMP_NUM_THREADS"] == "1"
    assert plan_on(flat(4), {"OMP_NUM_THREADS": "4"}).notices() == []


def test_what_is_asked_replaces_the_users_own_and_says_so():
    environ = {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "5"}
    plan = plan_on(flat(4), environ, wait="passive", spin_count=1000)
    found = plan.instances[0].environ(environ)
    assert found["OMP_WAIT_POLICY"] == "PASSIVE"
    assert found["GOMP_SPINCOUNT"] == "1000"
    lines = plan.notices()
    assert lines[0].startswith("OMP_WAIT_POLICY=PASSIVE instead of your 'active' (wait=passive")
    assert lines[1].startswith("GOMP_SPINCOUNT=1000 instead of your '5'")


@pytest.mark.parametrize(("wait", "policy"), [("passive", "PASSIVE"), ("active", "ACTIVE")])
def test_wait_policies(wait, policy):
    assert changes(wait=wait)["OMP_WAIT_POLICY"] == ("set", policy)
    assert "KMP_BLOCKTIME" not in changes(wait=wait)


@pytest.mark.parametrize(
    "preload", ["/opt/libiomp5.so", "/lib/libjemalloc.so.2:/opt/libomp.so.5", "/x/libomp5.so.1 /y"]
)
def test_intels_and_llvms_runtimes_have_a_block_time_instead(preload):
    environ = {"LD_PRELOAD": preload}
    assert changes(environ, wait="passive")["KMP_BLOCKTIME"] == ("set", "0")
    assert changes(environ, wait="active")["KMP_BLOCKTIME"] == ("set", "infinite")
    assert "KMP_BLOCKTIME" not in changes(environ)


def test_a_spin_count_of_the_users_works_against_a_wait_policy():
    (line,) = plan_on(flat(4), {"GOMP_SPINCOUNT": "9"}, wait="passive").notices()
    assert line.startswith("GOMP_SPINCOUNT=9 is yours and stays: libgomp takes it rather than")


def test_thread_counts_that_work_against_the_plan_are_told():
    environ = {"MKL_NUM_THREADS": "3", "OMP_THREAD_LIMIT": "2"}
    limit, mkl = plan_on(flat(4), environ).notices()
    assert limit.startswith("OMP_THREAD_LIMIT=2 is yours and stays: below the 4 CPUs")
    assert mkl.startswith("MKL_NUM_THREADS=3 is yours and stays: torch takes")
    assert plan_on(flat(4), {"MKL_NUM_THREADS": "4", "OMP_THREAD_LIMIT": "4"}).notices() == []


def test_an_allocator_goes_before_what_the_user_preloads():
    assert with_allocator({})["LD_PRELOAD"] == ("set", JEMALLOC)
    found = with_allocator({"LD_PRELOAD": "/opt/libiomp5.so"})
    assert found["LD_PRELOAD"] == ("replaced", f"{JEMALLOC}:/opt/libiomp5.so")
    assert found["MALLOC_CONF"][1].startswith("oversize_threshold:1,background_thread:true")


def test_an_allocator_that_is_preloaded_already_stays():
    found = with_allocator({"LD_PRELOAD": "/elsewhere/libjemalloc.so", "MALLOC_CONF": "x:1"})
    assert "LD_PRELOAD" not in found
    assert found["MALLOC_CONF"] == ("kept", "x:1")


def test_tcmalloc_has_no_configuration():
    found = with_allocator({}, path="/lib/libtcmalloc.so.4", allocator="tcmalloc")
    assert found["LD_PRELOAD"] == ("set", "/lib/libtcmalloc.so.4")
    assert "MALLOC_CONF" not in found


@pytest.mark.parametrize("path", [None, "/with space/lib.so", "/with:colon/lib.so"])
def test_a_path_that_cannot_be_preloaded_is_refused(path):
    with pytest.raises(ValueError, match="allocator_path must be a path without spaces"):
        with_allocator({}, path=path)


def test_output_through_a_pipe_is_not_kept_back_by_python():
    assert plan_on(flat(4)).instances[0].argv[1:] == ("serve.py",)
    assert plan_on(flat(4), instances=2).instances[0].argv[1:] == ("-u", "serve.py")
    assert plan_on(flat(4), log_dir="logs").instances[0].argv[1:] == ("-u", "serve.py")


def test_planning_changes_nothing():
    environ = {"OMP_NUM_THREADS": "1"}
    before = dict(environ)
    plan = plan_on(flat(4), environ, instances=2, wait="passive")
    plan.instances[0].environ(environ)
    assert environ == before
    assert CPUSet(plan.cpus) == CPUSet(range(4))
