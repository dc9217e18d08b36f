"""`corestream run`: what a program finds itself started with."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from corestream.cli import main
from corestream.cpu import CPUSet
from tests.integration.launching import INSTANCE, begin, launch, variables
from tests.integration.subprograms import finish

WORDS = [
    "",
    "a  b",
    "it's",
    '"quoted"',
    "$HOME",
    "*",
    "\\",
    "line\nline",
    "--",
    "--help",
    "-n",
    "é",
]


def reports(text: str) -> list[dict]:
    """What instances reported, by index."""
    return [json.loads(line) for _, line in sorted(re.findall(r"^\[(\d+)\] (\{.*)$", text, re.M))]


def plan(*words: str) -> dict:
    return launch("--json", *words).clean_report()


def test_a_single_instance_takes_the_launchers_place():
    process = begin(INSTANCE, "report", *WORDS)
    found = finish(process).clean_report()
    assert found["pid"] == process.pid
    assert found["argv"] == ["report", *WORDS]
    assert not found["torch"]


def test_a_single_instance_is_as_if_started_by_a_shell():
    direct = subprocess.run(
        [sys.executable, INSTANCE, "report"],
        env=variables(),
        capture_output=True,
        text=True,
        check=True,
    )
    expected, found = json.loads(direct.stdout), json.loads(launch(INSTANCE, "report").stdout)
    for name in ("blocked", "ignored", "stdin", "unbuffered"):
        assert found[name] == expected[name]
    changed = set(found["environ"].items()) ^ set(expected["environ"].items())
    assert {name for name, _ in changed} == {"OMP_NUM_THREADS"}
    assert found["environ"]["OMP_NUM_THREADS"] == str(len(found["affinity"]))


def test_instances_have_disjoint_masks_as_planned():
    done = launch("-n", "2", INSTANCE, "report", *WORDS)
    found = reports(done.stdout)
    planned = plan("-n", "2", INSTANCE)["instances"]
    masks = [str(CPUSet(report["affinity"])) for report in found]
    assert masks == [str(CPUSet.parse(instance["cpus"])) for instance in planned]
    assert not set(found[0]["affinity"]) & set(found[1]["affinity"])
    for index, report in enumerate(found):
        assert report["argv"] == ["report", *WORDS]
        assert report["stdin"] == "/dev/null"
        assert report["unbuffered"]
        assert int(report["blocked"], 16) == 0
        environ = report["environ"]
        assert environ["CORESTREAM_INSTANCE_INDEX"] == str(index)
        assert environ["CORESTREAM_NUM_INSTANCES"] == "2"
        assert environ["OMP_NUM_THREADS"] == str(len(report["affinity"]))


def test_a_part_of_the_instances():
    done = launch("-n", "2", "--instance-index", "1", INSTANCE, "report")
    found = json.loads(done.stdout)
    assert found["environ"]["CORESTREAM_INSTANCE_INDEX"] == "1"
    assert str(CPUSet(found["affinity"])) == plan("-n", "2", INSTANCE)["instances"][1]["cpus"]


def test_unpinned_instances_keep_the_mask():
    found = reports(launch("-n", "2", "--no-pin", INSTANCE, "report").stdout)
    assert [set(report["affinity"]) for report in found] == [os.sched_getaffinity(0)] * 2


def test_the_users_variables_stay_and_it_is_said():
    done = launch(INSTANCE, "report", env={"OMP_NUM_THREADS": "77"})
    assert json.loads(done.stdout)["environ"]["OMP_NUM_THREADS"] == "77"
    assert done.stderr.startswith("corestream run: OMP_NUM_THREADS=77 is yours and stays")
    assert launch("-q", INSTANCE, "report", env={"OMP_NUM_THREADS": "77"}).stderr == ""


def test_wait_and_spin_count_are_in_the_environment():
    done = launch("--wait", "passive", "--spin-count", "10", INSTANCE, "report")
    environ = json.loads(done.stdout)["environ"]
    assert environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environ["GOMP_SPINCOUNT"] == "10"


def test_an_allocator_is_preloaded(tmp_path):
    # Any library will do: it is the loader's job to load what the plan says.
    mapped = re.findall(r"/\S*/libm[.-]\S*", Path("/proc/self/maps").read_text())
    library = shutil.copy(mapped[0], tmp_path / "libjemalloc.so.2")
    program = "print(open('/proc/self/maps').read())"
    environ = {"LD_LIBRARY_PATH": str(tmp_path)}
    done = launch("--allocator", "jemalloc", sys.executable, "-c", program, env=environ)
    assert str(library) in done.stdout
    assert str(library) not in launch(sys.executable, "-c", program).stdout


def test_memory_is_bound_or_it_is_said():
    # get_mempolicy(2) of the instance; it has no function in the C library.
    program = (
        "import ctypes, platform\n"
        "number = {'x86_64': 239, 'aarch64': 236}[platform.machine()]\n"
        "mode = ctypes.c_int(-1)\n"
        "ctypes.CDLL(None).syscall(number, ctypes.byref(mode), None, 0, None, 0)\n"
        "print(mode.value)"
    )
    done = launch("--membind", sys.executable, "-c", program)
    assert done.stdout == "2\n" or "memory of instance 0 is not bound" in done.stderr
    assert launch(sys.executable, "-c", program).stdout != "2\n"


def test_kinds_of_programs(tmp_path):
    script = tmp_path / "program.py"
    script.write_text("#!/bin/echo executed\nprint('run by python')\n")
    script.chmod(0o755)
    environ = {"PYTHONPATH": str(tmp_path)}
    assert launch(str(script)).stdout == "run by python\n"
    assert launch("--no-python", str(script)).stdout == f"executed {script}\n"
    assert launch("-m", "program", env=environ).stdout == "run by python\n"
    assert launch("echo", "x", "-n").stdout == "x -n\n"


def test_exit_codes_pass_through():
    for code in (0, 1, 7, 255):
        assert launch("sh", "-c", f"exit {code}").returncode == code
    assert launch("sh", "-c", "kill -TERM $$").returncode == -15  # exec: it was this process


def test_closed_descriptors_are_not_given_to_other_files(tmp_path):
    def close():
        os.closerange(0, 3)

    # A daemon's. The claim and the logs would be opened in their place, and be written to.
    seen, logs = tmp_path / "seen", tmp_path / "logs"
    shown = " ".join(f"/proc/$$/fd/{number}" for number in range(3))
    environ = {"CORESTREAM_LEDGER_DIR": str(tmp_path / "ledger")}
    program = f'found=$(readlink {shown}); echo "$found" > {seen}'
    claimed = ["--slice", "auto", "-c", "1", "sh", "-c", program]
    assert launch(*claimed, env=environ, preexec_fn=close).returncode == 0
    assert seen.read_text() == "/dev/null\n" * 3
    logged = ["-n", "2", "--log-dir", str(logs), "sh", "-c", "echo out; echo err >&2"]
    assert launch(*logged, preexec_fn=close).returncode == 0
    assert [log.read_text() for log in sorted(logs.iterdir())] == ["out\nerr\n"] * 2


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["no-such-program"], 127, "got 'no-such-program'; see PATH"),
        (["./not-executable"], 126, "got './not-executable'; make it executable"),
        (["not-executable"], 127, "for the file in this folder write ./not-executable"),
        (["./no-interpreter"], 127, "got './no-interpreter', No such file or directory"),
        (["./no-format"], 126, "got './no-format', Exec format error"),
    ],
)
@pytest.mark.parametrize("instances", ["1", "2"])
def test_programs_that_cannot_be_executed(tmp_path, command, code, message, instances):
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    for name, text in (("no-interpreter", "#!/no/such\n"), ("no-format", "\x7fELF\0")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    done = launch("-n", instances, *command, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mask_that_the_kernel_refuses(monkeypatch):
    program = (
        "from corestream.launch import InstancePlan, LaunchPlan, run_plan\n"
        "bad = InstancePlan(index=0, cpus=(4095,), numa_nodes=(0,), argv=('true',))\n"
        "import sys; number = int(sys.argv[1])\n"
        "plan = LaunchPlan(instances=(bad,) * number, num_planned=number, grace_s=0)\n"
        "sys.exit(run_plan(plan))\n"
    )
    for number in ("1", "2"):
        command = [sys.executable, "-c", program, number]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 125
        assert "CPUs 4095 of instance 0: Invalid argument" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_dry_run_shows_and_starts_nothing(tmp_path):
    marker = tmp_path / "marker"
    words = ["-n", "2", "--wait", "active", "--log-dir", "logs", "touch", str(marker)]
    done = launch("--dry-run", *words, env={"COLUMNS": "300"})
    assert done.returncode == 0
    assert f"command: touch {marker}" in done.stdout
    assert "environment: CORESTREAM_INSTANCE_INDEX=1 (which instance this is" in done.stdout
    assert "OMP_WAIT_POLICY=ACTIVE (wait=active; read once" in done.stdout
    assert "logs/instance-1.log" in done.stdout
    assert plan(*words)["instances"][1]["argv"] == ["touch", str(marker)]
    assert not marker.exists()


def test_the_plan_as_json():
    found = plan("-n", "2", "--membind", "--grace", "3", "x.py")
    assert found["num_planned"] == 2
    assert found["grace_s"] == 3
    assert not found["in_place"]
    first = found["instances"][0]
    assert first["argv"] == [sys.executable, "-u", "x.py"]
    assert first["is_pinned"]
    assert {change["name"] for change in first["changes"]} == {
        "OMP_NUM_THREADS",
        "CORESTREAM_INSTANCE_INDEX",
        "CORESTREAM_NUM_INSTANCES",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--latency-mode", "--throughput-mode", "x"], "latency_mode must be without"),
        (["--slice", "3", "x"], "slice must be auto or i/n with i from 0 to n-1; got '3'"),
        (["--cpus", "99999", "x"], "cpus must be CPUs that may be used; got 99999 among"),
        (["--instances", "x", "x"], "Invalid value for '--instances'"),
        (["--wait", "sometimes", "x"], "sometimes"),
        ([], "Missing argument 'PROGRAM'"),
        (["--allocator", "jemalloc", "x"], "run: apt-get install libjemalloc2"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(words, message, capsys, monkeypatch):
    if "--allocator" in words:
        monkeypatch.setattr("corestream.launch.allocator._folders", lambda *_: [])
    assert main(["run", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_help_has_every_option_and_examples(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    main(["run", "--help"])
    text = capsys.readouterr().out
    for option in ("--instances", "--no-pin", "--slice", "--grace", "--log-dir", "--json", "-m"):
        assert option in text
    assert "corestream run --slice auto -c 4 -- gunicorn app:app" in text
    assert "--no-smt" not in text


def test_the_launcher_never_loads_torch():
    program = (
        "import sys\nfrom corestream.cli import main\n"
        "code = main(['run', '-n', '2', 'true'])\n"
        "main(['run', '--dry-run', 'true'])\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(code, sorted(loaded & {'torch', 'numpy'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def test_launchers_without_coordination_take_disjoint_cores(tmp_path):
    environ = {"CORESTREAM_LEDGER_DIR": str(tmp_path)}
    words = ("--slice", "auto", "-c", "1", "--")
    show = "grep Cpus_allowed_list /proc/self/status"
    first = begin(*words, INSTANCE, "wait", env=environ)
    assert first.stdout.readline() == f"pid {first.pid}\n"
    taken = os.sched_getaffinity(first.pid)
    second = launch(*words, "sh", "-c", show, env=environ)
    cpus = CPUSet.parse(second.stdout.split()[-1])
    assert len(cpus) == len(taken) == 1
    assert not taken & set(cpus)
    (planned,) = launch("--json", *words, "x", env=environ).report()["instances"]
    assert planned["cpus"] == str(cpus)

    count = len(os.sched_getaffinity(0))
    too_many = launch("--slice", "auto", "-c", str(count), "true", env=environ)
    if too_many.returncode != 2:  # fewer cores than CPUs
        assert too_many.returncode == 125
    assert "must fit in the" in too_many.stderr
    assert "Traceback" not in too_many.stderr
    first.kill()
    first.communicate(timeout=60)
    again = launch(*words, "sh", "-c", show, env=environ)
    assert CPUSet.parse(again.stdout.split()[-1]) == CPUSet(taken)


@pytest.mark.needs_build
def test_torch_and_streams_find_the_whole_mask():
    program = (
        "import json, torch, corestream\n"
        "with corestream.TaskExecutor(num_streams=1) as executor: pass\n"
        "print(json.dumps({\n"
        "    'threads': torch.get_num_threads(),\n"
        "    'pool': corestream.CPUPool().core_ids,\n"
        "    'streams': [cpu for s in executor.streams for cpu in s.core_ids],\n"
        "}))"
    )
    words = ("--wait", "passive", "--spin-count", "77", sys.executable, "-c", program)
    done = launch(*words, env={"OMP_DISPLAY_ENV": "verbose"})
    found = done.report()
    (planned,) = launch("--json", "x").report()["instances"]
    cpus = list(CPUSet.parse(planned["cpus"]))
    assert found["threads"] == len(cpus)
    assert sorted(found["pool"]) == sorted(found["streams"]) == cpus
    # What libgomp itself says it read.
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
    assert "GOMP_SPINCOUNT = '77'" in done.stderr
