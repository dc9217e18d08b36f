"""What is kept: never what is wrong, then the fastest, then what costs least."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
import torch

from corestream import TaskExecutor
from corestream.errors import LoweringError
from corestream.lowering import chooser as chooser_module
from corestream.lowering.backend import LoweringRequest, OpenBatchError
from corestream.lowering.chooser import Chooser
from corestream.measure.inputs import ModelInputs
from corestream.measure.timing import Timing


@dataclass
class MadeUp:
    """A backend whose artifact calls a function."""

    name: str
    function: object
    weight_bytes: int = 0
    holds_gil: bool = True
    extra_bytes: int = 0
    notes: tuple[str, ...] = ("made up",)
    variant: str = ""

    @property
    def backend(self):
        return self.name

    def build(self, request):
        if isinstance(self.function, Exception):
            raise self.function
        return self

    def callee_source(self):
        return self.function

    def call(self, args, kwargs):
        return self.function(*args, **kwargs)


@pytest.fixture
def executor():
    with TaskExecutor(num_streams=1) as executor:
        yield executor


@pytest.fixture
def choose(executor, monkeypatch):
    """Chooses among backends as if they took so many seconds, always or round by round."""

    def run(
        *backends,
        times_s=None,
        steps=None,
        model=None,
        dtypes=(None,),
        inputs=None,
        tolerance=None,
    ):
        if times_s is not None:
            timings = {
                name: Timing(taken if isinstance(taken, tuple) else (taken,) * 3)
                for name, taken in times_s.items()
            }
            monkeypatch.setattr(chooser_module, "compare_times", lambda calls, **_: timings)
        request = LoweringRequest(
            model=(torch.nn.ReLU() if model is None else model).eval(),
            inputs=ModelInputs.of(torch.randn(4, 3) if inputs is None else inputs),
            dtype=None,
            team_size=1,
            num_streams=1,
            dynamic_batch=True,
            batch_sizes=(4,),
        )
        chooser = Chooser(
            request,
            executor=executor,
            backends=backends,
            dtypes=dtypes,
            tolerance=tolerance,
            notes=["a note"],
            on_step=(lambda text: None) if steps is None else steps.append,
        )
        return chooser.choose()

    return run


def relu(x):
    return x.clamp(min=0)


class Amplifier(torch.nn.Module):
    """Loses in bf16 what no tolerance in general allows: a sum of large terms that cancel."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, x):
        return (self.linear(x) + 100) - 100


def in_bf16(model):
    def run(x):
        with torch.autocast("cpu", torch.bfloat16):
            return model(x).float()

    return run


def test_a_dtype_that_is_asked_for_may_cost_what_it_costs_the_model(choose):
    model = Amplifier()
    lowered = choose(MadeUp("cast", in_bf16(model)), model=model, dtypes=[torch.bfloat16])
    (row,) = lowered.report.candidates
    assert 0.2 < row.error < row.error_limit <= 1.6 * row.error


def test_a_dtype_of_corestreams_choice_may_not(choose):
    model = Amplifier()
    cast = MadeUp("cast", in_bf16(model))
    with pytest.raises(LoweringError, match=r"cast bfloat16: wrong .* more than 0\.2;"):
        choose(cast, model=model, dtypes=[None, torch.bfloat16])


def test_a_higher_dtype_than_the_models_own_does_not_make_its_results_exact(choose):
    model = torch.nn.Linear(3, 3).bfloat16()

    weight, bias = model.weight.float(), model.bias.float()

    def in_fp32(x):
        return torch.nn.functional.linear(x.float(), weight, bias).bfloat16()

    lowered = choose(
        MadeUp("cast", in_fp32),
        model=model,
        dtypes=[torch.float32],
        inputs=torch.randn(4, 3).bfloat16(),
    )
    (row,) = lowered.report.candidates
    assert row.error_limit == 0.2


def test_the_fastest_is_kept(choose):
    slow, fast = MadeUp("slow", relu), MadeUp("fast", relu)
    lowered = choose(slow, fast, times_s={"slow": 2.0, "fast": 1.0})
    assert lowered.backend == "fast"
    assert [row.median_ms for row in lowered.report.candidates] == [2000.0, 1000.0]
    assert [row.is_chosen for row in lowered.report.candidates] == [False, True]
    assert lowered.report.notes == ("a note",)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (MadeUp("a", relu, weight_bytes=9, holds_gil=False), MadeUp("b", relu)),
        (MadeUp("a", relu, weight_bytes=5), MadeUp("b", relu, weight_bytes=4, extra_bytes=2)),
    ],
    ids=["gil", "memory"],
)
def test_of_equally_fast_ones_the_one_that_costs_less_is_kept(choose, better, worse):
    times_s = {"a": 1.0, "b": 1.001}
    assert choose(worse, better, times_s=times_s).backend == "a"
    assert choose(better, worse, times_s={"a": 1.001, "b": 1.0}).backend == "a"


@pytest.mark.parametrize(
    ("large", "small", "kept"),
    [
        (1.00, 1.03, "large"),
        (1.00, 1.005, "small"),
        (1.00, 0.9, "small"),
        # A machine that slows down for a round: the quotients of the rounds decide.
        ((1.00, 2.00, 1.00, 1.00), (1.03, 2.06, 1.03, 1.03), "large"),
    ],
)
def test_a_hundredth_is_worth_more_than_memory(choose, large, small, kept):
    backends = MadeUp("large", relu, weight_bytes=200), MadeUp("small", relu, weight_bytes=100)
    assert choose(*backends, times_s={"large": large, "small": small}).backend == kept


class Amplifies(torch.nn.Module):
    """Loses digits: what is left of two large numbers."""

    def forward(self, x):
        return (x + 10_000) - 10_000


def test_rounding_that_a_model_has_of_its_own_is_no_reason_to_refuse(choose):
    exact = MadeUp("exact", lambda x: Amplifies()(x.double()).float())
    options = {"model": Amplifies(), "inputs": torch.linspace(1, 2, 40).reshape(4, 10)}
    (row,) = choose(exact, **options).report.candidates
    assert 1e-4 < row.error < row.error_limit
    with pytest.raises(LoweringError, match="wrong for example"):
        choose(exact, **options, tolerance=1e-4)


def test_what_is_wrong_is_never_kept_and_not_measured(choose):
    wrong = MadeUp("wrong", lambda x: x.abs())
    lowered = choose(wrong, MadeUp("right", relu), times_s={"right": 5.0})
    assert lowered.backend == "right"
    row = lowered.report.candidates[0]
    assert row.reason.startswith("wrong for example: output differs by")
    assert row.median_ms is None
    assert row.error > row.error_limit


def test_what_is_wrong_for_a_size_that_nobody_named_is_found(choose):
    only_four = MadeUp("only four", lambda x: relu(x[:4]))
    lowered = choose(only_four, MadeUp("right", relu))
    assert "batch size 5" in lowered.report.candidates[0].reason


def test_what_cannot_be_built_is_a_line_with_the_reason(choose):
    broken = MadeUp("broken", RuntimeError("no compiler\nand more"))
    lowered = choose(broken, MadeUp("right", relu))
    row = lowered.report.candidates[0]
    assert (row.is_built, row.reason) == (False, "RuntimeError: no compiler")


def test_what_raises_when_it_runs_is_not_kept(choose):
    def fails(x):
        raise ValueError("not today")

    lowered = choose(MadeUp("fails", fails), MadeUp("right", relu))
    assert lowered.report.candidates[0].reason == "ValueError: not today"


def test_if_none_is_left_every_reason_is_told(choose):
    wrong, broken = MadeUp("wrong", torch.abs), MadeUp("broken", TypeError("no export"))
    with pytest.raises(LoweringError, match=r"wrong: wrong for example.*broken: TypeError: no exp"):
        choose(wrong, broken)


def test_every_step_is_announced(choose):
    steps: list[str] = []
    choose(MadeUp("one", relu), MadeUp("two", ValueError()), steps=steps)
    assert steps == [
        "running the model",
        "one: building",
        "one: checking",
        "two: building",
        "measuring",
    ]


def test_it_measures_on_every_stream():
    seen: set[int] = set()

    def count(x):
        seen.add(threading.get_native_id())
        return relu(x)

    with TaskExecutor(num_streams=2) as executor:
        request = LoweringRequest(
            model=torch.nn.ReLU().eval(),
            inputs=ModelInputs.of(torch.randn(4, 3)),
            dtype=None,
            team_size=1,
            num_streams=2,
            dynamic_batch=False,
            batch_sizes=(4,),
        )
        Chooser(
            request,
            executor=executor,
            backends=[MadeUp("one", count)],
            dtypes=[None],
            tolerance=None,
            notes=[],
            on_step=lambda text: None,
        ).choose()
        workers = {stream.thread_ids[0] for stream in executor.streams}
    assert seen == workers


def test_where_one_backend_cannot_leave_the_batch_open_another_has_its_turn(choose):
    fixed = MadeUp("fixed", OpenBatchError("a constant"))
    lowered = choose(fixed, MadeUp("right", relu))
    assert lowered.backend == "right"
    assert lowered.report.candidates[0].reason == "OpenBatchError: a constant"
