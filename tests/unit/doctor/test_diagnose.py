"""`diagnose()` in a running process, on a copy of a machine, and what it refuses."""

from __future__ import annotations

import json
import os
import sys

import pytest
import torch

import corestream
from corestream.cpu import gather
from corestream.doctor import Diagnosis, Finding, Level, diagnose
from corestream.doctor import api as doctor_api
from corestream.doctor.checks import examine
from corestream.doctor.facts import Facts
from corestream.doctor.report import render
from tests.topologies.builder import build, write
from tests.topologies.machines import MACHINES
from tests.topologies.processes import Process, process_texts
from tests.unit.doctor.environments import ENVIRONMENTS, facts_of


def test_this_process_with_its_streams():
    with corestream.TaskExecutor(num_streams=1) as executor:
        executor.submit(torch.ones, 2).get()
        diagnosis = diagnose(window_s=0)
        (cpus,) = diagnosis.facts.service.executors[0].streams
    assert list(cpus) == sorted(executor.cpu_pool.core_ids)
    assert diagnosis.finding("streams").value == f"1 streams on {cpus}"
    assert diagnosis.facts.process.kind == "own"
    assert diagnosis.facts.torch.version == torch.__version__
    assert diagnosis.finding("intra-op threads").value.startswith(f"{torch.get_num_threads()}, ")
    screen = " ".join(str(diagnosis).split())
    for line in torch.__config__.parallel_info().splitlines():
        assert " ".join(line.split()) in screen


def test_looking_loads_nothing(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.delitem(sys.modules, "corestream.runtime.executor")
    diagnosis = diagnose(window_s=0)
    assert "torch" not in sys.modules
    assert diagnosis.facts.torch is None
    assert diagnosis.facts.service is None
    assert "torch is not loaded" in diagnosis.finding("versions").value


def test_the_processes_own_variables_count(monkeypatch):
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")
    monkeypatch.setenv("SOME_SECRET", "hush")
    diagnosis = diagnose(window_s=0)
    assert diagnosis.facts.environ["OMP_THREAD_LIMIT"] == "1"
    assert "hush" not in json.dumps(diagnosis.to_dict())


def test_a_copy_of_a_machine(tmp_path):
    gather.gather(tmp_path / "copy", build(tmp_path / "machine", MACHINES["cpuset 40-79"]))
    diagnosis = diagnose(tmp_path / "copy")
    assert diagnosis.finding("allowed CPUs").value.startswith("40-79 (40 of 160)")
    assert diagnosis.subject.startswith("the machine in ")


def test_a_process_of_a_copy(tmp_path):
    root = build(tmp_path, MACHINES["wsl"])
    write(root, process_texts(Process(process_id=42)))
    assert diagnose(root, process=42, num_workers=3).facts.num_workers == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"process": 2**30}, "process must be the id of a running process"),
        ({"process": "new"}, "process must be 'own', 'fresh' or an id; got 'new'"),
        ({"num_workers": 0}, "num_workers must be at least 1; got 0"),
        ({"window_s": -1}, "window_s must be at least 0; got -1"),
        ({"root": "/dev"}, "root must be a folder with the text of a machine; got '/dev'; make"),
    ],
)
def test_wrong_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        diagnose(**arguments)


def test_nothing_can_be_started_in_a_copy(tmp_path):
    with pytest.raises(ValueError, match="nothing can be started there"):
        diagnose(tmp_path, process="fresh")
    with pytest.raises(ValueError, match="probe must be False for a copy of a machine; got True"):
        diagnose(tmp_path, probe=True)


def diagnosis_of(*levels: Level) -> Diagnosis:
    facts = object.__new__(Facts)
    findings = tuple(
        Finding(group="CPUs", title=f"line {number}", value="v", level=level, explanation="why")
        for number, level in enumerate(levels)
    )
    return Diagnosis(subject="a test", findings=findings, facts=facts)


@pytest.mark.parametrize(
    ("levels", "plain", "strict"),
    [
        ((), 0, 0),
        ((Level.OK, Level.NOTE), 0, 0),
        ((Level.WARN, Level.OK), 0, 1),
        ((Level.WARN, Level.FAIL), 1, 1),
    ],
)
def test_exit_codes(levels, plain, strict):
    diagnosis = diagnosis_of(*levels)
    assert (diagnosis.exit_code(), diagnosis.exit_code(strict=True)) == (plain, strict)
    assert diagnosis.is_ok == (strict == 0)


def test_a_title_that_is_not_there():
    with pytest.raises(ValueError, match="title must be one of line 0; got 'nope'"):
        diagnosis_of(Level.OK).finding("nope")


def test_explanations_of_good_lines_on_request():
    assert "why" not in render(diagnosis_of(Level.OK))
    assert "why" in render(diagnosis_of(Level.OK), explain=True)
    assert "1 WARN" in render(diagnosis_of(Level.WARN))


def test_the_data_is_json(tmp_path):
    facts = facts_of(ENVIRONMENTS["docker --cpus=2 on 96 CPUs"], tmp_path)
    diagnosis = Diagnosis(subject="docker", findings=examine(facts), facts=facts)
    data = json.loads(json.dumps(diagnosis.to_dict()))
    assert data["level"] == "WARN"
    assert {"group", "title", "value", "level", "explanation", "fix"} == set(data["findings"][0])
    assert data["torch"]["intra_op"] == 48
    assert data["products"]["int8"]["times_as_fast"] == 11.0


def test_another_process_is_watched(monkeypatch):
    seen = []
    monkeypatch.setattr(
        doctor_api, "watch", lambda root, p, *, window_s: seen.append(window_s) or ()
    )
    diagnose(process=os.getpid(), window_s=0.5)
    assert seen == [0.5]
