"""What MultiStreamModule refuses, and that it does so before anything runs."""

from __future__ import annotations

import re
import warnings

import pytest
import torch

from corestream import CPUPool, MultiStreamModule
from corestream import MultiStreamModuleHint as Hint
from corestream.errors import CorestreamWarning, ShutDown
from tests.plugins.state_guard import count_stream_threads
from tests.unit.runtime.stream_cases import Machine, machine_of, running, whole_batch

THREE = Machine(num_streams=3, num_cpus=3, is_real=False)


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls += 1
        return args


@pytest.mark.parametrize(
    ("num_streams", "error", "message"),
    [
        (0, ValueError, "num_streams must be an int of at least 1; got 0; pass a number of that"),
        (-2, ValueError, "num_streams must be an int of at least 1; got -2; pass a number of that"),
        (1.0, TypeError, "num_streams must be an int of at least 1; got 1.0; pass a number of"),
        (True, TypeError, "num_streams must be an int of at least 1; got True; pass a number of"),
        (None, TypeError, "num_streams must be an int of at least 1; got None; pass a number of"),
        (
            "auto",
            ValueError,
            'num_streams must be an int or "AUTO"; got \'auto\'; write "AUTO" for as many',
        ),
    ],
)
def test_num_streams(num_streams, error, message):
    threads = count_stream_threads()
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        MultiStreamModule(len, num_streams, CPUPool())
    assert count_stream_threads() == threads


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpu_pool": [0]}, "cpu_pool must be a CPUPool; got [0]; see"),
        ({"concat_output": 1}, "concat_output must be a bool; got 1; see"),
        (
            {"input_split_hint": 0},
            "input_split_hint must be a MultiStreamModuleHint or None; got 0; see",
        ),
        (
            {"output_concat_hint": (0,)},
            "output_concat_hint must be a MultiStreamModuleHint or None; got (0,); see",
        ),
        ({"model": 3}, "module must be a ScriptModule, the path of a .pt2 package, an nn.Module"),
    ],
)
def test_arguments_of_another_type(options, message):
    threads = count_stream_threads()
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        MultiStreamModule(**({"model": len, "num_streams": 1} | options))
    assert count_stream_threads() == threads


@pytest.mark.parametrize("hint", [Hint(), Hint(0, y=0)])
def test_an_output_hint_of_two_kinds_or_none(hint):
    with pytest.raises(ValueError, match=r"^output_concat_hint must have positional entries"):
        MultiStreamModule(len, 1, output_concat_hint=hint)


def test_a_package_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        MultiStreamModule(tmp_path / "model.pt2", 1)


@pytest.mark.parametrize("num_streams", [4, 100])
def test_more_streams_than_cores_are_clamped_with_a_warning_at_the_callers_line(num_streams):
    message = (
        f"num_streams must be at most the number of cores, 3; got {num_streams}; 3 streams are made"
    )
    with machine_of(3) as pool:
        with pytest.warns(CorestreamWarning, match=f"^{message}$") as caught:
            streams = MultiStreamModule(len, num_streams, pool)
        streams.executor.shutdown()
    assert [warning.filename for warning in caught] == [__file__]
    assert streams.get_stream_number() == 3


def test_as_many_streams_as_cores_are_no_warning():
    with warnings.catch_warnings(), machine_of(3) as pool, running(len, 3, pool) as streams:
        warnings.simplefilter("error")
        assert streams.get_stream_number() == 3


@pytest.mark.parametrize("num_streams", [1, 3])
@pytest.mark.parametrize(
    ("hint", "args", "kwargs", "error", "message"),
    [
        (None, (whole_batch(4), whole_batch(3)), {}, ValueError, "args[1] must have 4 items"),
        (None, (whole_batch(4),), {"y": [whole_batch(3)]}, ValueError, "kwargs['y'][0] must have"),
        (Hint(2), (whole_batch(4),), {}, ValueError, "the hint for args[0] must be a dim of"),
        (Hint([0]), (whole_batch(4),), {}, ValueError, "the hint for args[0] must be an int or"),
        (Hint([0, 0]), ([whole_batch(4)],), {}, ValueError, "the hint for args[0] must name its"),
        (Hint(0, 0), (whole_batch(4),), {}, ValueError, "input_split_hint must name arguments"),
        (Hint(x=0), (whole_batch(4),), {}, ValueError, "input_split_hint must name arguments"),
        (Hint(0), (4,), {}, TypeError, "args[0] must be a tensor to be split by the hint 0; got 4"),
    ],
)
@pytest.mark.parametrize("call", ["forward", "forward_async", "warm_up"])
def test_inputs_that_do_not_fit_run_nothing(num_streams, hint, args, kwargs, error, message, call):
    model = Counted()
    machine = Machine(num_streams=num_streams, num_cpus=num_streams, is_real=False)
    with machine.run(model, input_split_hint=hint) as streams:
        with pytest.raises(error, match=f"^{re.escape(message)}"):
            getattr(streams, call)(*args, **kwargs)
        assert streams.executor.submit(int).get() == 0
    assert model.calls == 0


def test_arguments_that_torchscript_does_not_take_run_nothing():
    @torch.jit.script
    def model(x: torch.Tensor, scale: float) -> torch.Tensor:
        return x * scale

    x = whole_batch(4)
    with THREE.run(model) as streams:
        with pytest.raises(RuntimeError, match="missing value for argument 'scale'"):
            streams(x)
        with pytest.raises(RuntimeError, match="scale"):
            streams(x, "two")
        with pytest.raises(RuntimeError, match="expected at most 2 argument"):
            streams(x, 2.0, shift=1)
        assert torch.equal(streams(x, 2.0), x * 2)


@pytest.mark.parametrize(
    ("model", "hint", "message"),
    [
        (lambda x: len(x), None, "output must be equal on every stream; got 2, 1"),
        (lambda x: x.sum(), None, "output must have a dim 0 to be joined along; got shape ()"),
        (lambda x: [x] * len(x), None, "output must have one structure; got ["),
        (lambda x: x, Hint((0,)), "output must be a container for the hint (0,); got a tensor"),
        (lambda x: (x, x), Hint((0,)), "output must have the entries [0] of the hint; got [0, 1]"),
    ],
)
def test_outputs_that_cannot_be_joined(model, hint, message):
    with THREE.run(model, output_concat_hint=hint) as streams:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            streams(whole_batch(4))
        future = streams.forward_async(whole_batch(4))
        for _ in range(2):
            with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
                future.get()


def test_a_shut_down_executor():
    with THREE.run(lambda x: x) as streams:
        streams.executor.shutdown()
        with pytest.raises(ShutDown):
            streams(whole_batch(4))
