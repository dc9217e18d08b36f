"""`allowed_cpus`: affinity ∩ cpuset ∩ online, captured before anyone pins anything."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from corestream.cpu import CPUSet, Topology, allowed_cpus, cpu_budget, startup_affinity, topology
from corestream.cpu.allowed import override_allowed
from tests.topologies.builder import Machine, build, cgroup_v1, cgroup_v2, write
from tests.topologies.machines import MACHINES

SRC = Path(__file__).parents[3] / "src"


def allowed(root: Path) -> str:
    return str(allowed_cpus(root))


def run_python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(SRC)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one cpu", "0"),
        ("holes and offline", "0-1,4-8,12-13,16-19"),
        ("cpuset 40-79", "40-79"),
        ("gvisor", "0-3"),
        ("more than 1024 cpus", "0-1151"),
    ],
)
def test_machines(root_of, name, expected):
    assert allowed(root_of(name)) == expected


@pytest.mark.parametrize("name", MACHINES)
def test_only_online_cpus_are_allowed(root_of, name):
    assert CPUSet() < allowed_cpus(root_of(name)) <= topology(root_of(name)).online


def test_affinity_cpuset_and_online_are_intersected(tmp_path):
    limits = {"": {"cpuset.cpus.effective": "0-9"}}
    shape = Machine(cores=16, offline="3", affinity="2-12", cgroup=cgroup_v2("/", limits))
    assert allowed(build(tmp_path, shape)) == "2,4-9"


def test_the_affinity_may_name_cpus_that_are_offline(tmp_path):
    assert allowed(build(tmp_path, Machine(cores=4, affinity="0-63"))) == "0-3"


def test_the_innermost_cpuset_that_says_something_counts(tmp_path):
    limits = {
        "": {"cpuset.cpus.effective": "0-7"},
        "/a": {"cpuset.cpus.effective": "0-5"},
        "/a/b": {"cpuset.cpus.effective": ""},
        "/a/b/c": {"cpu.max": "max 100000"},
        "/other": {"cpuset.cpus.effective": "0"},
    }
    assert allowed(build(tmp_path, Machine(cores=8, cgroup=cgroup_v2("/a/b/c", limits)))) == "0-5"


@pytest.mark.parametrize("name", ["cpuset.effective_cpus", "cpuset.cpus"])
def test_cgroup_v1(tmp_path, name):
    limits = {"": {name: "0-7"}, "/docker/x": {name: "1,3"}}
    shape = Machine(cores=8, cgroup=cgroup_v1("/docker/x", limits))
    assert allowed(build(tmp_path, shape)) == "1,3"


def test_a_container_that_sees_its_own_cgroup_as_the_top(tmp_path):
    """The membership names the host's path; the mount shows only what is below it."""
    cgroup = cgroup_v1("/docker/x", {"": {"cpuset.cpus": "2-3"}}, shown="/docker/x")
    assert allowed(build(tmp_path, Machine(cores=8, cgroup=cgroup))) == "2-3"


def test_another_containers_mount_is_not_ours(tmp_path):
    cgroup = cgroup_v2("/ours", {"": {"cpuset.cpus.effective": "0-3"}}, shown="/ours")
    foreign = "29 23 0:28 /our /srv/theirs rw - cgroup2 cgroup2 rw\n"
    cgroup["proc/self/mountinfo"] = foreign + cgroup["proc/self/mountinfo"]
    cgroup["srv/theirs/cpuset.cpus.effective"] = "7\n"
    assert allowed(build(tmp_path, Machine(cores=8, cgroup=cgroup))) == "0-3"


def test_a_mount_point_with_a_space(tmp_path):
    cgroup = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "31 23 0:28 / /my\\040cgroup rw - cgroup2 cgroup2 rw\n",
        "my cgroup/cpuset.cpus.effective": "1\n",
    }
    assert allowed(build(tmp_path, Machine(cores=2, cgroup=cgroup))) == "1"


def test_a_path_outside_the_cgroup_namespace_means_the_top(tmp_path):
    cgroup = cgroup_v2("/../../host", {"": {"cpuset.cpus.effective": "0-1"}})
    assert allowed(build(tmp_path, Machine(cores=4, cgroup=cgroup))) == "0-1"


@pytest.mark.parametrize("member", ["/" + "x" * 5000, "/\x00"])
def test_a_path_that_no_file_system_takes_means_the_top(tmp_path, member):
    cgroup = cgroup_v2(member, {"": {"cpuset.cpus.effective": "0-1"}})
    assert allowed(build(tmp_path, Machine(cores=4, cgroup=cgroup))) == "0-1"


def test_a_mount_point_outside_the_root_is_left_out(tmp_path):
    cgroup = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "31 23 0:28 / /../outside rw - cgroup2 cgroup2 rw\n",
    }
    write(tmp_path, {"outside/cpuset.cpus.effective": "0\n"})
    assert allowed(build(tmp_path / "root", Machine(cores=4, cgroup=cgroup))) == "0-3"


@pytest.mark.parametrize("version", [1, 2])
def test_a_hidden_mount_table_means_the_usual_places(tmp_path, version):
    cgroup = (cgroup_v1 if version == 1 else cgroup_v2)(
        "/a", {"/a": {"cpuset.cpus": "1", "cpuset.cpus.effective": "1"}}
    )
    del cgroup["proc/self/mountinfo"]
    if version == 2:
        cgroup["sys/fs/cgroup/cgroup.controllers"] = "cpu cpuset\n"
    assert allowed(build(tmp_path, Machine(cores=4, cgroup=cgroup))) == "1"


def test_a_cpuset_without_any_of_our_cpus_is_left_out_with_a_reason(tmp_path):
    limits = {"": {"cpuset.cpus.effective": "8-9"}}
    root = build(tmp_path, Machine(cores=4, cgroup=cgroup_v2("/", limits)))
    assert allowed(root) == "0-3"
    assert any("would leave no CPU" in reason for reason in cpu_budget(root).reasons)


def test_without_a_shown_mask_every_online_cpu_is_allowed(tmp_path):
    assert allowed(build(tmp_path, Machine(cores=4, offline="1", affinity="hidden"))) == "0,2-3"


def test_a_mask_that_makes_no_sense(tmp_path):
    root = build(tmp_path, Machine(cores=2))
    write(root, {"proc/self/status": "Cpus_allowed_list:\tsome\n"})
    assert allowed(root) == "0-1"


def test_an_empty_folder_allows_one_cpu(tmp_path):
    assert allowed(tmp_path) == "0"


def test_this_process():
    assert allowed_cpus() <= startup_affinity()
    assert allowed_cpus() <= topology().online


def test_a_later_pin_of_the_main_thread_changes_nothing():
    program = """
        import os
        from corestream.cpu import allowed_cpus, cpu_budget
        before = allowed_cpus(), cpu_budget().count
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        assert (allowed_cpus(), cpu_budget().count) == before
        print(len(before[0]))
    """
    assert run_python(program) == str(len(allowed_cpus()))


def test_the_mask_at_start_up_counts():
    cpu = max(os.sched_getaffinity(0))
    program = f"""
        import os
        os.sched_setaffinity(0, {{{cpu}}})
        from corestream.cpu import allowed_cpus, startup_affinity
        print(allowed_cpus(), startup_affinity())
    """
    assert run_python(program) == f"{cpu} {cpu}"


def test_an_import_in_a_pinned_thread_captures_the_main_threads_mask():
    program = """
        import os, threading
        def work():
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            import corestream.cpu
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        from corestream.cpu import startup_affinity
        print(set(startup_affinity()) == os.sched_getaffinity(0))
    """
    assert run_python(program) == "True"


def test_a_system_without_affinity_masks_has_all_its_cpus():
    program = """
        import os
        del os.sched_getaffinity
        from corestream.cpu import startup_affinity
        print(set(startup_affinity()) == set(range(os.cpu_count())))
    """
    assert run_python(program) == "True"


def test_importing_loads_neither_torch_nor_the_extension():
    program = """
        import sys
        import corestream.cpu
        print(sorted(m for m in sys.modules if m.split(".")[0] in ("torch", "numpy", "ctypes")))
    """
    assert run_python(program) == "[]"


def test_override_replaces_the_answers_of_this_process(root_of):
    machine = topology(root_of("epyc, 4 l3s per node"))
    before = allowed_cpus(), topology(), cpu_budget()
    with override_allowed(CPUSet.parse("0-15"), machine):
        assert str(allowed_cpus()) == "0-15"
        assert topology() is machine
        assert (cpu_budget().count, cpu_budget().quota) == (16, None)
        assert allowed(root_of("one cpu")) == "0"
        with override_allowed(CPUSet([7])):
            assert str(allowed_cpus()) == "7"
            assert topology() == Topology.flat(CPUSet([7]))
        assert str(allowed_cpus()) == "0-15"
    assert (allowed_cpus(), topology(), cpu_budget()) == before


def test_override_ends_with_an_exception():
    before = allowed_cpus()
    with pytest.raises(ZeroDivisionError), override_allowed(CPUSet([7])):
        raise ZeroDivisionError
    assert allowed_cpus() == before


@pytest.mark.parametrize(
    ("cpus", "error"), [([0], TypeError), ("0", TypeError), (CPUSet(), ValueError)]
)
def test_override_checks_its_argument(cpus, error):
    with pytest.raises(error, match="cpus must be"), override_allowed(cpus):
        pytest.fail("the body must not run")
