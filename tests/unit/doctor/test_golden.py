"""The screen in every environment, as stored under golden/.

After a change of wording look at what has changed, then renew the files:
`CORESTREAM_RENEW_GOLDEN=1 .venv/bin/pytest tests/unit/doctor/test_golden.py`, and `git diff`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from corestream.doctor.checks import examine
from corestream.doctor.diagnosis import Diagnosis
from corestream.doctor.finding import Level
from corestream.doctor.report import WIDTH, render
from tests.unit.doctor.environments import ENVIRONMENTS, facts_of

GOLDEN = Path(__file__).parent / "golden"


def file_of(name: str) -> Path:
    return GOLDEN / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.txt"


@pytest.fixture(params=ENVIRONMENTS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def diagnosis(name: str, tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    facts = facts_of(ENVIRONMENTS[name], tmp_path_factory.mktemp("machine"))
    return Diagnosis(subject=name, findings=examine(facts), facts=facts)


def test_the_screen_is_as_stored(name, diagnosis):
    text = render(diagnosis)
    if os.environ.get("CORESTREAM_RENEW_GOLDEN") and "CI" not in os.environ:
        file_of(name).write_text(text)
    assert text == file_of(name).read_text()


def test_the_screen_is_well_formed(diagnosis):
    titles = [finding.title for finding in diagnosis.findings]
    assert len(set(titles)) == len(titles)
    assert all(len(line) <= WIDTH for line in render(diagnosis).splitlines())
    groups = [finding.group for finding in diagnosis.findings]
    assert sorted(set(groups), key=groups.index) == [
        group for group, before in zip(groups, [None, *groups], strict=False) if group != before
    ]


def test_what_is_wrong_comes_with_a_fix(diagnosis):
    bad = [finding for finding in diagnosis.findings if finding.level >= Level.WARN]
    assert [finding.title for finding in bad if not finding.fix] == []


def test_torchs_own_words_are_on_the_screen(diagnosis):
    if diagnosis.facts.torch is None:
        assert "parallel_info" not in {finding.title for finding in diagnosis.findings}
        return
    screen = " ".join(render(diagnosis).split())
    for line in diagnosis.facts.torch.parallel_info.splitlines():
        assert " ".join(line.split()) in screen


def test_no_stored_screen_is_left_over():
    assert {path.name for path in GOLDEN.iterdir()} == {file_of(n).name for n in ENVIRONMENTS}


# What each place is known for must be found there, whatever the words.
EXPECTED = {
    "bare metal, all well": {},
    "docker --cpus=2 on 96 CPUs": {
        "CPU quota": "NOTE",
        "throttling": "WARN",
        "oversubscription": "WARN",
        "who spins": "WARN",
    },
    "kubernetes, static cpuset 40-79": {"allowed CPUs": "OK", "masks": "OK"},
    "cgroup v1 quota": {"CPU quota": "NOTE", "throttling": "OK", "oversubscription": "OK"},
    "OMP_PROC_BIND collapsed the mask": {"affinity variables": "FAIL"},
    "two OpenMP runtimes": {"OpenMP runtimes": "WARN"},
    "a Ray worker": {"Ray's thread count": "WARN"},
    "gunicorn, 4 workers of all threads": {"oversubscription": "WARN"},
    "WSL without NUMA, without torch": {"versions": "NOTE"},
    "gVisor without sysfs": {"allowed CPUs": "NOTE"},
    "hybrid laptop, power saver": {"governor": "WARN", "core types": "NOTE", "bf16": "NOTE"},
    "EPYC, a team over many L3 domains": {
        "L3 domains": "WARN",
        "fp32 through MKL": "WARN",
        "fp16": "NOTE",
        "bf16": "OK",
    },
    "virtual machine with steal": {"steal time": "WARN", "SMT": "NOTE", "huge pages": "NOTE"},
    "AVX2 only": {"instruction sets": "WARN", "intra-op threads": "WARN", "bf16": "NOTE"},
    "forked after the main thread used torch": {"fork": "FAIL"},
    "another user's process": {"OpenMP runtimes": "NOTE", "teams": "NOTE", "fork": "NOTE"},
    "a service with streams and an idle team": {"teams": "WARN", "streams": "WARN", "fork": "OK"},
    "OMP_THREAD_LIMIT, and a hang": {"OMP_THREAD_LIMIT": "FAIL", "teams": "FAIL"},
    "spinning in a quota, a preload that is not there": {
        "who spins": "WARN",
        "allocator": "WARN",
        "oversubscription": "WARN",
    },
}


def test_what_a_place_is_known_for_is_found(name, diagnosis):
    found = {title: diagnosis.finding(title).level.name for title in EXPECTED[name]}
    assert found == EXPECTED[name]


def test_a_good_machine_has_nothing_to_read(tmp_path):
    facts = facts_of(ENVIRONMENTS["bare metal, all well"], tmp_path)
    findings = examine(facts)
    assert {finding.title for finding in findings if finding.level != Level.OK} <= {"fp16"}
