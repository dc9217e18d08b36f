"""What an import loads and changes: nothing that was not asked for."""

from __future__ import annotations

import json

import pytest

from corestream import _native
from tests.integration.subprograms import finish, run_code, start

pytestmark = pytest.mark.needs_build

MODULES = """
import json, sys
{statement}
print(json.dumps([name for name in sys.modules if name.split('.')[0] in ('torch', 'corestream')]))
"""

SIDE_EFFECTS = """
import json, logging, os, pathlib, signal, sys, threading, warnings
import torch

def look():
    import torch
    tasks = [
        (task.name, (task / "comm").read_text(), os.sched_getaffinity(int(task.name)))
        for task in sorted(pathlib.Path("/proc/self/task").iterdir())
    ]
    return {
        "tasks": repr(tasks),
        "environment": dict(os.environ),
        "loggers": sorted(logging.Logger.manager.loggerDict),
        "handlers": [repr(handler) for handler in logging.getLogger().handlers],
        "filters": repr(warnings.filters),
        "hooks": repr([sys.excepthook, sys.unraisablehook, threading.excepthook]),
        "signals": repr([signal.getsignal(number) for number in signal.valid_signals()]),
        "torch_threads": torch.get_num_threads(),
        "patched": repr([torch.set_num_threads, torch.jit.freeze, torch.nn.Module.__call__,
                         torch.jit.ScriptModule.__call__, threading.Thread.start, os.fork]),
    }

before, modules = look(), set(sys.modules)
import corestream.runtime
print(json.dumps({"before": before, "after": look(), "new": sorted(set(sys.modules) - modules)}))
"""

OTHER_TORCH = """
import corestream, corestream._build
corestream._build.torch_version = "2.99.0"
try:
    corestream.TaskExecutor()
except ImportError as error:
    print(error)
assert not corestream.is_runtime_ext_enabled()
"""


def modules_after(statement: str) -> set[str]:
    return set(run_code(MODULES.format(statement=statement)).clean_report())


def test_importing_the_package_loads_neither_torch_nor_native_code():
    assert modules_after("import corestream") == {"corestream"}


def test_importing_cpu_never_loads_torch():
    loaded = modules_after(
        "import corestream.cpu, corestream\ncorestream.CPUPool(); corestream.cpu_budget()"
    )
    assert "corestream.cpu" in loaded
    assert not {name for name in loaded if name.split(".")[0] == "torch"}
    assert not {"corestream._core", "corestream._torch"} & loaded


def test_importing_the_runtime_has_no_side_effects():
    report = run_code(SIDE_EFFECTS).clean_report()
    before, after = report["before"], report["after"]
    ours = {name for name in after["loggers"] if name.split(".")[0] == "corestream"}
    after["loggers"] = sorted(set(after["loggers"]) - ours)
    assert before == after
    # Above torch, an import costs our own Python files and a little of the standard library.
    foreign = [name for name in report["new"] if name.split(".")[0] == "torch"]
    assert foreign == []
    assert not {"corestream._core", "corestream._torch"} & set(report["new"])


def test_another_torch_is_refused_with_what_to_run():
    finished = run_code(OTHER_TORCH)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.startswith("torch must be 2.99.x, which corestream was built against; ")
    assert "pip install" in finished.stdout


@pytest.mark.parametrize("found", ["2.13.0+cpu", "2.13.1", "2.13.0a0+git1234", "2.13"])
def test_torch_of_the_same_minor_version_is_accepted(found):
    _native.check_torch_version(built="2.13.0", found=found)


@pytest.mark.parametrize("found", ["2.12.1", "2.14.0+cpu", "3.13.0", "2.1.3"])
def test_torch_of_another_minor_version_is_refused(found):
    with pytest.raises(ImportError, match=rf"must be 2\.13\.x.*got torch {found[:3]}.*pip install"):
        _native.check_torch_version(built="2.13.0", found=found)


def test_missing_native_part_says_what_to_run(monkeypatch):
    with pytest.raises(ImportError, match=r"corestream\._no_such must load; got: .*make build"):
        _native._load("_no_such")


def test_python_m_corestream_prints_json():
    info = finish(start(["-m", "corestream"], {"OMP_NUM_THREADS": "2"})).clean_report()
    assert set(info["versions"]) == {
        "corestream",
        "torch",
        "built_against_torch",
        "python",
        "kernel",
    }
    assert info["cpus"]["budget"] >= 1
    assert info["cpus"]["reasons"]
    openmp = info["openmp"]
    assert openmp["kind"] == "libgomp"
    assert openmp["path"] in openmp["mapped"]
    assert {"stream_workers", "other_idle_workers", "cpus", "is_throttled"} <= set(openmp)
    assert info["threads"]["torch_num_threads"] == 2
    assert info["threads"]["os_threads"] >= info["threads"]["python_threads"] == 1
    assert set(info["masks"]) == {"startup", "main_thread", "calling_thread"}
    assert info["environment"] == {"OMP_NUM_THREADS": "2"}
    assert info["problems"] == []
    assert json.loads(json.dumps(info)) == info
