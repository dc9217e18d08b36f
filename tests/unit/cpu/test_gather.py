"""A copy of a machine's text answers as the machine does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corestream.cpu import allowed_cpus, cpu_budget, topology
from corestream.cpu.__main__ import main
from corestream.cpu.gather import gather
from corestream.cpu.report import describe
from tests.topologies.builder import Machine, build, cgroup_v1, cgroup_v2, write
from tests.topologies.machines import MACHINES

SRC = Path(__file__).parents[3] / "src"


def answers(root: Path | str) -> tuple[object, ...]:
    return topology(root), allowed_cpus(root), cpu_budget(root)


@pytest.mark.parametrize("name", sorted(set(MACHINES) - {"more than 1024 cpus"}))
def test_a_copy_of_a_machine_answers_the_same(root_of, tmp_path, name):
    gather(tmp_path, root_of(name))
    assert answers(tmp_path) == answers(root_of(name))


def test_a_copy_of_this_machine_answers_the_same(tmp_path):
    paths = gather(tmp_path / "new" / "folder")
    assert "proc/self/status" in paths
    assert answers(tmp_path / "new" / "folder") == answers("/")


@pytest.mark.parametrize("version", [cgroup_v1, cgroup_v2])
def test_limits_are_copied(tmp_path, version):
    files = {
        "cpu.max": "250000 100000",
        "cpuset.cpus.effective": "0-5",
        "cpu.cfs_quota_us": "250000",
        "cpu.cfs_period_us": "100000",
        "cpuset.cpus": "0-5",
    }
    shape = Machine(
        cores=8, offline="2", cgroup=version("/a/b", {"/a": files, "/a/b": {"cgroup.procs": ""}})
    )
    root = build(tmp_path / "machine", shape)
    gather(tmp_path / "copy", root)
    assert cpu_budget(tmp_path / "copy") == cpu_budget(root)
    assert cpu_budget(root).quota == 2.5


@pytest.mark.parametrize("version", [cgroup_v1, cgroup_v2])
def test_limits_are_copied_where_the_mount_table_is_hidden(tmp_path, version):
    files = {"cpuset.cpus": "1", "cpuset.cpus.effective": "1"}
    cgroup = version("/a", {"/a": files})
    del cgroup["proc/self/mountinfo"]
    if version is cgroup_v2:
        cgroup["sys/fs/cgroup/cgroup.controllers"] = "cpuset\n"
    root = build(tmp_path / "machine", Machine(cores=4, cgroup=cgroup))
    gather(tmp_path / "copy", root)
    assert str(allowed_cpus(tmp_path / "copy")) == "1"


def test_a_copy_of_a_copy_is_the_same_text(root_of, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert gather(first, root_of("hybrid")) == gather(second, first)
    for file in filter(Path.is_file, first.rglob("*")):
        assert file.read_text() == (second / file.relative_to(first)).read_text()


def test_only_lines_about_cpus_are_copied(tmp_path):
    root = build(tmp_path / "machine", Machine(cores=2, sysfs=False, cgroup=cgroup_v2("/", {})))
    secret = "25 1 8:1 / /home/alice rw - ext4 /dev/sda1 rw\n"
    mounts = (root / "proc/self/mountinfo").read_text()
    write(root, {"proc/self/mountinfo": secret + mounts})
    gather(tmp_path / "copy", root)
    copied = "".join(f.read_text() for f in (tmp_path / "copy").rglob("*") if f.is_file())
    assert "alice" not in copied
    assert "Name:" not in copied
    assert "Some Processor" not in copied
    assert "cgroup2" in copied


def test_a_folder_with_files_is_refused(tmp_path):
    write(tmp_path, {"mine.txt": "text"})
    with pytest.raises(ValueError, match="directory must be new or empty"):
        gather(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_report_is_plain_data(root_of):
    report = describe(root_of("hybrid"))
    assert json.loads(json.dumps(report)) == report
    assert report["allowed_cpus"] == "0-19"
    assert report["cpu_budget"]["count"] == 20
    assert report["topology"]["numa_nodes"] == [{"numa_node_id": 0, "cpus": "0-19"}]
    assert report["topology"]["cores"][0] == {
        "package_id": 0,
        "core_id": 0,
        "cpus": "0-1",
        "core_type": "performance",
        "l1_bytes": 48 * 2**10,
        "l2_bytes": 2**20,
    }


def test_command_line_prints_json(root_of, capsys):
    assert main(["--root", str(root_of("holes and offline"))]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["topology"]["offline"] == [2, 14, 15]
    assert report == describe(root_of("holes and offline"))


def test_command_line_gathers(root_of, tmp_path, capsys):
    arguments = ["--root", str(root_of("wsl")), "gather", str(tmp_path / "copy")]
    assert main(arguments) == 0
    assert "files copied to" in capsys.readouterr().out
    assert topology(tmp_path / "copy") == topology(root_of("wsl"))
    assert main(arguments) == 1
    assert "must be new or empty" in capsys.readouterr().err


def test_command_line_of_this_machine_without_installation():
    done = subprocess.run(
        [sys.executable, "-m", "corestream.cpu"],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(SRC)},
        check=True,
    )
    assert json.loads(done.stdout) == describe()
    assert done.stderr == ""
