"""Turns and rates of a mode, with processes that only keep a diary."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import pytest

from corestream.bench import match as match_module
from corestream.bench.match import MIN_ROUNDS, Match
from corestream.bench.plan import Contender, Load, Options, Plan
from corestream.cpu.cpu_set import CPUSet
from corestream.measure.process import MisuseError

FACTS = {
    "setup_s": 1.0,
    "kind": "an nn.Module",
    "batch_size": 1,
    "weights": 7,
    "difference": None,
    "notes": [],
    "call_s": 0.0,
}
# Requests per second of each contender, by users.
RATES = {"stock": {1: 100.0, 4: 60.0}, "corestream": {1: 150.0, 4: 400.0}}


class FakeProcess:
    """Answers at once; `diary` has what all of them were asked."""

    diary: ClassVar[list[tuple[str, dict]]] = []
    answers: ClassVar[dict[str, dict]] = {}
    started: ClassVar[list[FakeProcess]] = []

    def __init__(self, argv, *, name, log, environ=None):
        self.argv, self.name = argv, name.rpartition(" ")[2]
        self.is_closed = False
        type(self).started.append(self)

    def ask(self, what, *, timeout_s, on_tick, **arguments):
        return {**FACTS, **self.answers.get(self.name, {})}

    def send(self, what, **arguments):
        self.request = arguments
        self.diary.append((self.name, arguments))

    def receive(self, *, timeout_s, on_tick=None):
        rate = self.request["rate_per_s"] or RATES.get(self.name, {}).get(
            self.request["users"], 50.0
        )
        return {
            "completed": 10,
            "failed": 0,
            "rejected": 0,
            "seconds": 10 / rate,
            "latencies_s": [0.01] * 10,
            "error": self.answers.get(self.name, {}).get("load_error"),
        }

    def memory(self):
        return SimpleNamespace(rss_bytes=1 << 20, pss_bytes=1 << 19)

    def cpu_seconds(self):
        return 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_closed = True


@pytest.fixture
def fakes(monkeypatch):
    monkeypatch.setattr(FakeProcess, "diary", [])
    monkeypatch.setattr(FakeProcess, "answers", {})
    monkeypatch.setattr(FakeProcess, "started", [])
    monkeypatch.setattr(match_module, "TurnProcess", FakeProcess)
    return FakeProcess


def make_match(tmp_path, *, contenders, loads, options=None) -> Match:
    plan = Plan("realtime", (0, 1, 2, 3), 2, 2, 1, tuple(contenders), tuple(loads))
    return Match(
        plan,
        options=options or Options(),
        model="m:f",
        inputs=["1x3"],
        cpus=CPUSet([0]),
        folder=tmp_path,
        setup_timeout_s=1.0,
        tick=lambda text: None,
    )


STOCK, OURS = Contender("stock", "stock"), Contender("corestream", "ours")
INSTANCES = Contender("instances", "two", slices=((0, 1), (2, 3)), num_threads=2)


def test_contenders_take_turns_and_the_open_loop_has_stocks_rate(fakes, tmp_path):
    loads = [Load(users=1), Load(users=4), Load(share=0.5)]
    with make_match(tmp_path, contenders=[STOCK, OURS], loads=loads) as match:
        match.prepare()
        report = match.measure(budget_s=0.001)
    turns = [(name, request["users"], request["rate_per_s"]) for name, request in fakes.diary]
    closed = [(name, users, None) for users in (1, 4) for name in ("stock", "corestream")]
    opened = [("stock", None, 50.0), ("corestream", None, 50.0)]  # half of 100, stock's best
    assert turns == closed * MIN_ROUNDS + opened * MIN_ROUNDS
    assert report.rounds == MIN_ROUNDS
    open_requests = [request for _, request in fakes.diary if request["users"] is None]
    assert open_requests[0]["threads"] == 1  # stock is best with one user
    assert open_requests[0]["seed"] == open_requests[1]["seed"] != open_requests[2]["seed"]
    verdicts = {(one.load, one.metric): one.ratio for one in report.verdicts}
    assert verdicts["4 users", "throughput"] == pytest.approx(400 / 60)
    assert all(process.is_closed for process in fakes.started)


def test_slow_calls_and_many_users_have_patience(fakes, tmp_path):
    fakes.answers = {"stock": {"call_s": 10.0}}
    loads = [Load(users=1), Load(users=16)]
    with make_match(tmp_path, contenders=[STOCK, OURS], loads=loads) as match:
        match.prepare()
        match.measure(budget_s=0.001)
    timeouts = {(name, one["users"]): one["timeout_s"] for name, one in fakes.diary}
    assert timeouts["stock", 16] > 16 * 10.0
    assert timeouts["stock", 1] < timeouts["stock", 16]
    assert timeouts["corestream", 16] < 100


def test_instances_share_a_load(fakes, tmp_path):
    loads = [Load(users=1), Load(users=3), Load(rate_per_s=10)]
    with make_match(tmp_path, contenders=[STOCK, INSTANCES], loads=loads) as match:
        match.prepare()
        report = match.measure(budget_s=0.001)
    assert [process.argv[-1] for process in fakes.started[1:]] == ["0-1", "2-3"]
    shared = [request for name, request in fakes.diary if name == "instances"]
    assert [request["users"] for request in shared[:3]] == [1, 2, 1]  # one idles with one user
    opened = [request for request in shared if request["users"] is None]
    assert [request["rate_per_s"] for request in opened[:2]] == [5.0, 5.0]
    assert opened[0]["seed"] != opened[1]["seed"]
    row = next(row for row in report.rows if (row.load, row.contender) == ("3 users", "instances"))
    assert row.items_per_s == pytest.approx(100.0)  # the sum of two
    memory = report.contenders[1]
    assert (memory.num_processes, memory.rss_bytes) == (2, 2 << 20)


def test_other_answers_and_failed_requests_are_problems(fakes, tmp_path):
    difference = {
        "is_within": False,
        "error": 0.5,
        "limit": 1e-4,
        "reason": "output differs by 0.5",
    }
    fakes.answers = {"corestream": {"difference": difference, "load_error": "RuntimeError: x"}}
    with make_match(tmp_path, contenders=[STOCK, OURS], loads=[Load(users=1)]) as match:
        match.prepare()
        report = match.measure(budget_s=0.001)
    assert report.problems == (
        "corestream answers otherwise: output differs by 0.5",
        "corestream failed under 1 user: RuntimeError: x",
    )


def test_other_weights_are_no_contest(fakes, tmp_path):
    fakes.answers = {"corestream": {"weights": 8}}
    with (
        make_match(tmp_path, contenders=[STOCK, OURS], loads=[Load(users=1)]) as match,
        pytest.raises(MisuseError, match=r"model must have the same weights whenever it is made"),
    ):
        match.prepare()
    assert all(process.is_closed for process in fakes.started)


def test_a_budget_makes_rounds_and_turns(fakes, tmp_path):
    options = Options(rounds=7)
    for budget_s, turn_s in ((1000.0, 3.0), (14.0, 1.0), (0.001, 0.1)):
        with make_match(
            tmp_path, contenders=[STOCK, OURS], loads=[Load(users=1)], options=options
        ) as match:
            match.prepare()
            report = match.measure(budget_s=budget_s)
        assert report.turn_s == pytest.approx(turn_s)
        assert report.rounds == (7 if budget_s > 1 else MIN_ROUNDS)
