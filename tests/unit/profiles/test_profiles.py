"""A profile is used where it was made, and refused elsewhere in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from corestream.profiles import (
    Profile,
    ProfileKey,
    cpu_model,
    find_profile,
    load_profile,
    profiles_folder,
    save_profile,
)
from tests.topologies.builder import build, write
from tests.topologies.machines import MACHINES

KEY = ProfileKey(cpu_model="Some Processor", cpus="0-3", torch="2.13.0+cpu", model="ab" * 32)
PROFILE = Profile(
    key=KEY,
    objective="throughput",
    num_streams=2,
    team_size=2,
    batch_size=8,
    backend="torchscript",
    is_stock_best=False,
    verdict="1.40 times the throughput of stock",
    made="2026-11-27T10:00:00+00:00",
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "corestream" / "profiles"


def test_what_was_saved_is_found_and_equal(folder):
    path = save_profile(PROFILE)
    assert path.parent == folder == profiles_folder()
    assert find_profile(KEY).profile == PROFILE
    assert load_profile(path) == PROFILE
    assert [entry.name for entry in folder.iterdir()] == [path.name]


def test_a_later_profile_replaces_an_earlier_one(folder):
    save_profile(PROFILE)
    later = replace(PROFILE, num_streams=4, team_size=1)
    save_profile(later)
    assert find_profile(KEY).profile == later
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cpu_model": "Other"}, "the CPU model is 'Other' here and 'Some Processor' in the"),
        ({"cpus": "0-1"}, "the CPUs are '0-1' here and '0-3' in the profile"),
        ({"torch": "2.14.0"}, "the torch version is '2.14.0' here and '2.13.0+cpu' in the profile"),
    ],
)
def test_another_machine_is_refused_and_the_note_says_why(folder, change, words):
    save_profile(PROFILE)
    found = find_profile(replace(KEY, **change))
    assert found.profile is None
    assert len(found.notes) == 1
    assert words in found.notes[0]
    assert found.notes[0].startswith("refused ")


def test_another_model_has_no_notes(folder):
    save_profile(PROFILE)
    assert find_profile(replace(KEY, model="cd" * 32)).notes == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\x00\xff",
        json.dumps({**PROFILE.to_dict(), "version": 2}),
        json.dumps({**PROFILE.to_dict(), "num_streams": 0}),
        json.dumps({**PROFILE.to_dict(), "num_streams": True}),
        json.dumps({**PROFILE.to_dict(), "key": {}}),
        json.dumps({**PROFILE.to_dict(), "is_stock_best": "no"}),
    ],
)
def test_a_damaged_file_is_ignored_with_a_note_and_left_alone(folder, text):
    path = save_profile(PROFILE)
    path.write_text(text, encoding="latin-1")
    found = find_profile(KEY)
    assert found.profile is None
    assert len(found.notes) == 1
    assert found.notes[0].startswith(f"ignored {path}")
    assert path.read_text(encoding="latin-1") == text
    with pytest.raises(ValueError, match=r"path must be a profile that tune\(\) wrote"):
        load_profile(path)


def test_a_file_renamed_to_another_machines_name_is_still_refused(folder):
    path = save_profile(PROFILE)
    here = replace(KEY, cpu_model="Other")
    path.rename(path.with_name(f"{here.model[:16]}-{here.digest()}.json"))
    found = find_profile(here)
    assert found.profile is None
    assert "the CPU model is 'Other' here" in found.notes[0]


def test_a_failed_write_leaves_the_earlier_profile(folder, monkeypatch):
    save_profile(PROFILE)

    def fail(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_profile(replace(PROFILE, num_streams=1))
    assert find_profile(KEY).profile == PROFILE
    assert len(list(folder.iterdir())) == 1


def test_no_folder_and_no_home_are_no_profile(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing"))
    assert find_profile(KEY).notes == ()

    def no_home():
        raise RuntimeError("no home")

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "home", no_home)
    assert find_profile(KEY).profile is None


def test_the_cpu_model_is_the_kernels_name(tmp_path):
    assert cpu_model(build(tmp_path / "x86", MACHINES["one cpu"])) == "Some Processor"
    write(
        tmp_path / "guest",
        {
            "proc/cpuinfo": "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\n"
            "model name\t: AMD  EPYC\nstepping\t: 1\n"
        },
    )
    assert cpu_model(tmp_path / "guest") == "AMD EPYC (26/2/1)"
    write(
        tmp_path / "arm",
        {"proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"},
    )
    assert cpu_model(tmp_path / "arm") == "implementer 0x41, part 0xd40"
    assert cpu_model(tmp_path / "nowhere")


def test_profiles_do_not_load_torch():
    program = "import sys, corestream.profiles; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, env=dict(os.environ))
