"""Everything works under each OpenMP runtime, and what spoils pinning is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.integration.subprograms import run

pytestmark = pytest.mark.needs_build

ALLOWED = sorted(os.sched_getaffinity(0))


@pytest.fixture(params=["libgomp", "libiomp5", "libomp"])
def runtime(request):
    """(kind, environment) of a process that uses this runtime."""
    if request.param == "libgomp":
        return "libgomp", {}
    return request.param, {"LD_PRELOAD": str(request.getfixturevalue(request.param))}


@pytest.fixture
def second_libgomp(tmp_path):
    """Another wheel's libgomp: the same library under a name with a hash."""
    import torch

    own = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
    return shutil.copy(own, tmp_path / "libgomp-a34b3233.so.1.0.0")


def test_scenarios(runtime):
    kind, env = runtime
    report = run("openmp_scenario", env=env).clean_report()
    check_pin(report["pin"])
    assert report["tasks"] == {"is_right": True, "problems": []}
    team = report["team"]
    assert (team["is_right"], team["problems"]) == (True, [])
    assert team["planned"] == team["actual"] == [str(core_id) for core_id in report["pin"]["pool"]]
    streams = report["streams"]
    assert streams["difference"] < 1e-5
    assert streams["problems"] == []
    assert streams["child"] == {"exit_code": 0, "mask": ALLOWED, "value": True}
    check_info(report["info"], kind=kind, env=env)
    assert report["new_thread"] == ALLOWED
    assert report["masks"] == [report["info"]["masks"]["startup"]]


def check_pin(report):
    pool = report["pool"]
    outside, inside, after = report["threads"]
    assert inside == len(pool)
    assert report["threads_of_a_new_thread"] == outside == after
    assert report["mask_inside"] == [pool[0]]
    assert report["mask_outside"] == ALLOWED
    assert report["value"] == 1


def check_info(info, *, kind, env):
    openmp = info["openmp"]
    assert openmp["kind"] == kind
    expected = Path(env["LD_PRELOAD"]) if env else Path("libgomp.so.1")
    assert Path(openmp["path"]).name == expected.name
    assert expected.name in [Path(path).name for path in openmp["mapped"]]
    assert info["environment"] == env
    assert info["problems"] == []


def test_two_runtimes_are_warned_of_once(second_libgomp):
    report = run("openmp_warnings", "torch", str(second_libgomp)).clean_report()
    (warned,) = report["warned"]
    assert "must have one OpenMP runtime" in warned["text"]
    assert str(second_libgomp) in warned["text"]
    assert Path(warned["file"]).name == "openmp_warnings.py"
    assert warned["text"] in report["info"]["problems"]
    assert str(second_libgomp) in report["info"]["openmp"]["mapped"]


def test_a_preloaded_runtime_is_no_second_one(libiomp5, second_libgomp):
    """Calls of every library reach the preloaded one, whatever else is mapped."""
    env = {"LD_PRELOAD": str(libiomp5)}
    report = run("openmp_warnings", "torch", str(second_libgomp), env=env).clean_report()
    assert (report["warned"], report["info"]["problems"]) == ([], [])


@pytest.mark.skipif("len(ALLOWED) < 2", reason="one CPU cannot become fewer")
@pytest.mark.parametrize(
    ("first", "name", "value"),
    [
        ("torch", "OMP_PROC_BIND", "close"),
        ("torch", "OMP_PLACES", "cores"),
        ("torch", "GOMP_CPU_AFFINITY", " ".join(map(str, ALLOWED))),
        ("corestream.cpu", "OMP_PROC_BIND", "true"),
    ],
)
def test_a_variable_that_narrows_the_mask_is_named(first, name, value):
    report = run("openmp_warnings", first, env={name: value}).clean_report()
    assert len(report["main"]) < len(ALLOWED), "libgomp left the main thread alone"
    texts = [warned["text"] for warned in report["warned"]]
    assert len(texts) == 1
    assert f"{name}={value}" in texts[0]
    assert "unset it" in texts[0]
    assert texts == report["info"]["problems"]
    assert report["info"]["environment"] == {name: value}


def test_a_variable_that_moves_nothing_is_not_warned_of():
    report = run("openmp_warnings", "torch", env={"OMP_PROC_BIND": "false"}).clean_report()
    assert (report["warned"], report["main"]) == ([], ALLOWED)
