"""What a MultiStreamModule keeps: one model, and nothing of a call that is over."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from corestream import CPUPool, MultiStreamModule
from corestream import MultiStreamModuleHint as Hint
from corestream.errors import CorestreamWarning
from tests.helpers import assert_outputs_match
from tests.unit.runtime.stream_cases import (
    MACHINES,
    Affine,
    FailsAbove,
    Machine,
    Weight,
    running,
    scripted,
    whole_batch,
)

on_machines = pytest.mark.parametrize("machine", MACHINES, ids=str)
TWO = Machine(num_streams=2, num_cpus=2, is_real=True)
THREE = Machine(num_streams=3, num_cpus=3, is_real=False)


def watched_batch(items: int = 6) -> tuple[torch.Tensor, weakref.ref[Any]]:
    """A tensor over a numpy array's memory, and whether any tensor or view of it is left."""
    array = np.arange(items * 3, dtype=np.float32).reshape(items, 3)
    return torch.from_numpy(array), weakref.ref(array)


@on_machines
@pytest.mark.parametrize("concat_output", [True, False])
@pytest.mark.parametrize("model", [scripted(nn.Identity()), lambda x: x], ids=["script", "python"])
def test_neither_inputs_nor_outputs_are_kept(machine, concat_output, model):
    # The model returns its input, so that the same memory is that of the inputs and the outputs.
    with machine.run(model, concat_output=concat_output) as streams:
        x, memory = watched_batch()
        result = streams(x)
        del x, result
        assert memory() is None


@pytest.mark.parametrize("model", [scripted(nn.Identity()), lambda x: x], ids=["script", "python"])
def test_a_future_keeps_the_joined_output_only(model):
    with TWO.run(model) as streams:
        x, memory = watched_batch()
        future = streams.forward_async(x)
        del x
        assert torch.equal(future.get(), torch.arange(18.0).view(6, 3))
        assert memory() is None


def test_a_future_that_nobody_asks_keeps_nothing_once_dropped():
    with TWO.run(scripted(nn.Identity())) as streams:
        x, memory = watched_batch()
        futures = [streams.forward_async(x) for _ in range(5)]
        del x, futures
    assert memory() is None


@pytest.mark.parametrize("machine", [MACHINES[0], MACHINES[2]], ids=str)
def test_a_failed_call_keeps_nothing(machine):
    with machine.run(scripted(FailsAbove()), input_split_hint=Hint(0)) as streams:
        x, memory = watched_batch()
        with pytest.raises(torch.jit.Error, match="above the limit"):
            streams(x, 3.0)
        del x
        assert memory() is None


def fail_in_the_background(streams: MultiStreamModule) -> weakref.ref[Any]:
    x, memory = watched_batch()
    future = streams.forward_async(x, 3.0)
    try:
        future.get()
    except torch.jit.Error:
        return memory
    raise AssertionError("the call must fail")


def test_a_failed_future_and_the_frames_of_its_traceback_can_be_collected():
    with TWO.run(scripted(FailsAbove()), input_split_hint=Hint(0)) as streams:
        memory = fail_in_the_background(streams)
        gc.collect()
        assert memory() is None


def test_inputs_that_do_not_fit_are_not_kept():
    with TWO.run(scripted(nn.Identity())) as streams:
        x, memory = watched_batch()
        with pytest.raises(ValueError, match="must have 6 items"):
            streams(x, [whole_batch(2)])
        del x
        assert memory() is None


@pytest.mark.parametrize("hint", [Hint([0, {"y": 0}]), None])
@on_machines
def test_results_are_not_overwritten_by_later_calls(machine, hint):
    with machine.run(lambda x: [x + 1, {"y": x + 2}], output_concat_hint=hint) as streams:
        first = streams(whole_batch(5))
        second = streams(whole_batch(5) * 10)
        assert first is not second
        assert_outputs_match(first, [whole_batch(5) + 1, {"y": whole_batch(5) + 2}])
        assert_outputs_match(second, [whole_batch(5) * 10 + 1, {"y": whole_batch(5) * 10 + 2}])


@on_machines
def test_the_weights_of_all_streams_are_one(machine):
    model = scripted(Weight())
    with machine.run(model, concat_output=False) as streams:
        outputs = streams(whole_batch(machine.num_streams))
    assert [output.data_ptr() for output in outputs] == (
        [model.weight.data_ptr()] * machine.num_streams
    )


def test_the_model_is_the_one_submodule():
    model = scripted(Affine())
    with THREE.run(model) as streams:
        assert list(streams.children()) == [model]
        assert [name for name, _ in streams.named_parameters()] == [
            "model.linear.weight",
            "model.linear.bias",
        ]
        assert_outputs_match(
            dict(streams.state_dict()), {f"model.{k}": v for k, v in model.state_dict().items()}
        )


def test_what_changes_the_module_changes_the_streams():
    with THREE.run(scripted(nn.Sequential(Affine(), nn.Dropout(0.5)))) as streams:
        streams.train()
        assert streams.model.training
        assert not torch.equal(streams(whole_batch(9)), streams(whole_batch(9)))
        streams.eval()
        assert not streams.model.training
        assert torch.equal(streams(whole_batch(9)), streams(whole_batch(9)))
        streams.load_state_dict({k: v * 0 for k, v in streams.state_dict().items()})
        assert not streams(whole_batch(9)).any()
        streams.to(torch.float64)
        assert streams(whole_batch(9).double()).dtype == torch.float64


def test_streams_can_be_a_part_of_a_module():
    with THREE.run(scripted(Affine())) as streams:
        model = nn.Sequential(streams, nn.ReLU())
        assert_outputs_match(model(whole_batch(4)), streams.model(whole_batch(4)).relu())
        assert "0.model.linear.weight" in model.state_dict()


def test_an_nn_module_works_with_a_warning_of_the_gil():
    class Ours(Affine):
        pass

    model = Ours()
    with pytest.warns(CorestreamWarning, match="Ours is an nn.Module, whose Python code holds"):
        streams = MultiStreamModule(model, 1, CPUPool().split(1)[0])
    assert_outputs_match(streams(whole_batch(4)), model(whole_batch(4)))
    streams.executor.shutdown()


def test_a_deep_copy_has_its_own_streams_and_weights():
    with THREE.run(
        scripted(Affine()), input_split_hint=Hint(0), output_concat_hint=Hint(0)
    ) as streams:
        streams.eval()
        other = copy.deepcopy(streams)
        try:
            assert other.get_stream_number() == 3
            assert not other.training
            assert other.executor is not streams.executor
            assert other.executor.cpu_pool == streams.executor.cpu_pool
            expected = streams(whole_batch(4))
            with torch.no_grad():
                streams.model.linear.weight.zero_()
            assert_outputs_match(other(whole_batch(4)), expected)
        finally:
            other.executor.shutdown()


def test_a_pickle_makes_the_same_streams_again():
    options = {"concat_output": False, "input_split_hint": Hint(1)}
    with THREE.run(torch.relu, **options) as streams:
        other = pickle.loads(pickle.dumps(streams))
        try:
            x = whole_batch(2, width=4) - 3
            assert_outputs_match(other(x), streams(x))
            assert [part.shape[1] for part in other(x)] == [2, 1, 1]
        finally:
            other.executor.shutdown()


def test_dropping_it_ends_its_threads():
    # The fixture of every test sees threads that are left.
    streams = MultiStreamModule(scripted(Affine()), 1)
    executor = weakref.ref(streams.executor)
    streams(whole_batch(2))
    del streams
    gc.collect()
    assert executor() is None


def test_two_modules_may_share_a_model():
    model = scripted(Affine())
    pool = CPUPool().split(1)[0]
    with running(model, 1, pool) as first, running(model, 1, pool) as second:
        assert_outputs_match(first(whole_batch(3)), second(whole_batch(3)))
