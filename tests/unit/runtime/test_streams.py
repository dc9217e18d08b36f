"""MultiStreamModule gives what one call would give, however many streams share the batch."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from transformers import BatchEncoding
from transformers.modeling_outputs import BaseModelOutput

from corestream import MultiStreamModuleHint as Hint
from corestream import get_default_num_streams
from tests.helpers import assert_outputs_match
from tests.unit.runtime.stream_cases import (
    MACHINES,
    Affine,
    Machine,
    machine_of,
    running,
    scripted,
    whole_batch,
)

on_machines = pytest.mark.parametrize("machine", MACHINES, ids=str)
THREE = Machine(num_streams=3, num_cpus=3, is_real=False)


class Pair(NamedTuple):
    left: Any
    right: Any


class TensorPair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


@dataclass
class Record:
    values: Any
    label: str = "label"


def identity(x: Any) -> Any:
    return x


class ManyOutputs(nn.Module):
    def forward(
        self, x: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], list[torch.Tensor]]:
        return x + 1, {"mask": mask * 2, "transposed": x.t()}, [x * mask, x]


class ReturnsPair(nn.Module):
    def forward(self, x: torch.Tensor) -> TensorPair:
        return TensorPair(x + 1, x - 1)


class WithTable(nn.Module):
    def forward(
        self, x: torch.Tensor, table: torch.Tensor, scale: float = 1.0, shift: int = 0
    ) -> torch.Tensor:
        return x @ table * scale + shift


@on_machines
def test_the_result_is_that_of_one_call(machine):
    model = scripted(Affine())
    with machine.run(model) as streams:
        for items in range(1, 2 * machine.num_streams + 2):
            x = whole_batch(items)
            assert_outputs_match(streams(x), model(x))


@on_machines
def test_the_first_streams_get_one_item_more(machine):
    with machine.run(scripted(nn.Identity()), concat_output=False) as streams:
        for items in range(1, 2 * machine.num_streams + 2):
            parts = streams(whole_batch(items))
            count = min(items, machine.num_streams)
            expected = [items // count + (part < items % count) for part in range(count)]
            assert [len(part) for part in parts] == expected
            assert torch.equal(torch.cat(parts), whole_batch(items))


def test_four_items_on_three_streams_are_two_one_one_and_two_items_are_one_one():
    with THREE.run(scripted(nn.Identity()), concat_output=False) as streams:
        assert [len(part) for part in streams(whole_batch(4))] == [2, 1, 1]
        assert [len(part) for part in streams(whole_batch(2))] == [1, 1]


@pytest.mark.parametrize(
    ("num_streams", "num_cpus", "sizes"),
    [(2, 5, [3, 2]), (3, 4, [2, 1, 1]), (3, 3, [1, 1, 1]), (5, 16, [4, 3, 3, 3, 3]), (1, 4, [4])],
)
def test_the_first_streams_get_one_core_more(num_streams, num_cpus, sizes):
    machine = Machine(num_streams=num_streams, num_cpus=num_cpus, is_real=False)
    with machine.run(scripted(nn.Identity())) as streams:
        infos = streams.executor.streams
        assert [info.team_size for info in infos] == sizes
        assert [cpu for info in infos for cpu in info.core_ids] == list(range(num_cpus))


def test_auto_is_one_stream_per_core_where_nothing_is_known_of_the_model():
    with machine_of(5) as pool:
        assert get_default_num_streams(pool) == 5
        with running(scripted(nn.Identity()), "AUTO", pool) as streams:
            assert streams.get_stream_number() == 5
            assert [info.core_ids for info in streams.executor.streams] == [(i,) for i in range(5)]


@on_machines
def test_several_and_nested_outputs_are_joined(machine):
    model = scripted(ManyOutputs())
    hint = Hint((0, {"mask": 0, "transposed": 1}, [0, 0]))
    with machine.run(model, output_concat_hint=hint) as streams:
        x, mask = whole_batch(7), whole_batch(7, width=1)
        assert_outputs_match(streams(x, mask), model(x, mask))


@on_machines
def test_a_namedtuple_of_torchscript_is_joined(machine):
    model = scripted(ReturnsPair())
    with machine.run(model) as streams:
        assert_outputs_match(streams(whole_batch(7)), model(whole_batch(7)))
        assert_outputs_match(streams(whole_batch(7)).right, whole_batch(7) - 1)


def test_several_entries_of_an_output_hint_are_a_tuple_and_keywords_a_dict():
    with THREE.run(lambda x: (x, x.T), output_concat_hint=Hint(0, 1)) as streams:
        assert_outputs_match(streams(whole_batch(4)), (whole_batch(4), whole_batch(4).T))
    hint = Hint(rows=0, columns=1)
    with THREE.run(lambda x: {"rows": x, "columns": x.T}, output_concat_hint=hint) as streams:
        expected = {"rows": whole_batch(4), "columns": whole_batch(4).T}
        assert_outputs_match(streams(whole_batch(4)), expected)


def test_none_in_the_output_hint_takes_the_first_streams_value():
    with THREE.run(lambda x: (x, len(x)), output_concat_hint=Hint((0, None))) as streams:
        assert_outputs_match(streams(whole_batch(4)), (whole_batch(4), 2))


@on_machines
def test_inputs_are_split_along_another_dim(machine):
    hint = Hint(1)
    with machine.run(
        scripted(nn.ReLU()), input_split_hint=hint, output_concat_hint=hint
    ) as streams:
        x = whole_batch(2, width=7) - 5
        assert_outputs_match(streams(x), x.relu())


@pytest.mark.parametrize(
    "make",
    [
        lambda x: [x, (x, {"k": x})],
        lambda x: Pair(x, [x]),
        lambda x: {"b": x, "a": (x,)},
        Record,
        lambda x: BaseModelOutput(last_hidden_state=x, hidden_states=(x, x)),
        lambda x: BatchEncoding({"input_ids": x, "attention_mask": x}),
    ],
    ids=["nest", "namedtuple", "dict", "dataclass", "ModelOutput", "BatchEncoding"],
)
@pytest.mark.parametrize("machine", [MACHINES[1], MACHINES[4]], ids=str)
def test_containers_go_in_and_come_out_with_their_type(machine, make):
    with machine.run(identity) as streams:
        assert_outputs_match(streams(make(whole_batch(4))), make(whole_batch(4)))
    with machine.run(identity, concat_output=False) as streams:
        parts = streams(make(whole_batch(4)))
    sizes = [4] if machine.num_streams == 1 else [2, 1, 1]
    expected = [make(part) for part in whole_batch(4).split(sizes)]
    assert_outputs_match(parts, expected)


def test_a_batch_encoding_is_unpacked_into_keywords():
    batch = BatchEncoding({"input_ids": whole_batch(4), "attention_mask": whole_batch(4, width=1)})

    def model(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=input_ids * attention_mask)

    with THREE.run(model) as streams:
        assert_outputs_match(streams(**batch), model(**batch))


@on_machines
def test_arguments_beyond_the_hint_go_whole_to_every_stream(machine):
    model = scripted(WithTable())
    x, table = whole_batch(7), whole_batch(3, width=2)
    with machine.run(model, input_split_hint=Hint(0)) as streams:
        expected = model(x, table, 2.0, shift=3)
        assert_outputs_match(streams(x, table, 2.0, shift=3), expected)
        assert_outputs_match(streams(x, table=table, scale=2.0, shift=3), expected)
    with machine.run(model, input_split_hint=Hint(x=0, table=None)) as streams:
        assert_outputs_match(streams(table=table, x=x, scale=2.0, shift=3), expected)


@on_machines
def test_defaults_of_the_model_hold(machine):
    model = scripted(WithTable())
    with machine.run(model, input_split_hint=Hint(0)) as streams:
        x, table = whole_batch(6), whole_batch(3)
        assert_outputs_match(streams(x, table), x @ table)


@on_machines
def test_without_concat_the_raw_results_are_a_list(machine):
    with machine.run(lambda x: {"rows": x}, concat_output=False) as streams:
        parts = streams(whole_batch(10))
    assert isinstance(parts, list)
    assert len(parts) == machine.num_streams
    assert torch.equal(torch.cat([part["rows"] for part in parts]), whole_batch(10))


@on_machines
@pytest.mark.parametrize("concat_output", [True, False])
def test_an_empty_batch_is_one_run(machine, concat_output):
    calls = []

    def model(x: torch.Tensor) -> torch.Tensor:
        calls.append(x.shape)
        return x + 1

    with machine.run(model, concat_output=concat_output) as streams:
        result = streams(torch.empty(0, 3))
    assert calls == [(0, 3)]
    assert_outputs_match(result, torch.empty(0, 3) if concat_output else [torch.empty(0, 3)])


@on_machines
def test_arguments_without_tensors_are_one_run(machine):
    with machine.run(lambda *args, **kwargs: (args, kwargs)) as streams:
        assert streams(1, key="value") == ((1,), {"key": "value"})
        assert streams() == ((), {})


@on_machines
def test_the_callers_mask_and_thread_count_are_untouched(machine):
    mask, count = os.sched_getaffinity(0), torch.get_num_threads()
    with machine.run(scripted(Affine())) as streams:
        streams(whole_batch(6))
        assert os.sched_getaffinity(0) == mask
        assert torch.get_num_threads() == count


def test_one_stream_runs_on_its_own_thread_with_the_pools_team():
    machine = Machine(num_streams=1, num_cpus=3, is_real=False)
    with machine.run(lambda x: (torch.get_num_threads(), threading.get_native_id())) as streams:
        team_size, thread_id = streams(whole_batch(2))
        assert thread_id == streams.executor.streams[0].thread_ids[0]
    assert team_size == 3


@on_machines
def test_gradients_flow_through_the_streams(machine):
    model = scripted(Affine())
    x = whole_batch(5).requires_grad_()
    with machine.run(model) as streams:
        streams(x).square().sum().backward()
    (expected,) = torch.autograd.grad(model(x).square().sum(), x)
    assert_outputs_match(x.grad, expected)


@on_machines
def test_the_callers_grad_inference_and_autocast_modes_hold(machine):
    model = scripted(Affine())
    with machine.run(model) as streams:
        x = whole_batch(5)
        with torch.no_grad():
            assert not streams(x).requires_grad
        with torch.inference_mode():
            assert streams(x).is_inference()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_outputs_match(streams(x), model(x))
            assert streams(x).dtype == torch.bfloat16
        assert streams(x).requires_grad


def test_warm_up_runs_on_every_stream():
    seen = set()

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.add(threading.get_native_id())
        return x

    with THREE.run(model) as streams:
        streams.warm_up(whole_batch(1))
        assert seen == {info.thread_ids[0] for info in streams.executor.streams}


def test_repr_names_streams_and_cores():
    with THREE.run(scripted(nn.ReLU())) as streams:
        assert "num_streams=3, cpu_pool=CPUPool('0-2')" in repr(streams)
