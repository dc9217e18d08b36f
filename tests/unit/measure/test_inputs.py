"""Arguments of a call: from any form, mapped, cut and repeated."""

from __future__ import annotations

from collections import UserDict

import pytest
import torch

from corestream.measure import ModelInputs


def test_each_form_means_one_call():
    x, y = torch.zeros(2), torch.ones(2)
    forms = {
        "tensor": (x, (x,), {}),
        "tuple": ((x, y), (x, y), {}),
        "list": ([x, 3], (x, 3), {}),
        "mapping": ({"a": x}, (), {"a": x}),
        "user dict": (UserDict(a=x), (), {"a": x}),
        "inputs": (ModelInputs((x,), {"b": y}), (x,), {"b": y}),
    }
    for name, (form, args, kwargs) in forms.items():
        inputs = ModelInputs.of(form)
        assert len(inputs.args) == len(args), name
        assert all(a is b for a, b in zip(inputs.args, args, strict=True)), name
        assert list(inputs.kwargs) == list(kwargs), name


@pytest.mark.parametrize("wrong", [None, 3, "x", {1: torch.zeros(1)}, {torch.zeros(1)}])
def test_anything_else_is_refused(wrong):
    with pytest.raises(TypeError, match="example_inputs must be a tensor, a tuple or list"):
        ModelInputs.of(wrong)


def test_the_call_passes_both_kinds_of_arguments():
    inputs = ModelInputs((1,), {"b": 2})
    assert inputs.call(lambda a, *, b: (a, b)) == (1, 2)


def test_map_reaches_into_containers_and_leaves_the_rest():
    inputs = ModelInputs(([torch.ones(1), "text"],), {"mask": {"a": torch.ones(2)}})
    doubled = inputs.map(lambda tensor: tensor * 2)
    assert [t.tolist() for t in doubled.tensors()] == [[2.0], [2.0, 2.0]]
    assert doubled.args[0][1] == "text"
    assert inputs.tensors()[0].item() == 1.0


def test_the_batch_size_is_what_all_tensors_agree_on():
    assert ModelInputs((torch.zeros(3, 2), torch.tensor(1.0))).batch_size() == 3
    assert ModelInputs((torch.zeros(3), torch.zeros(2))).batch_size() is None
    assert ModelInputs((torch.tensor(1.0),)).batch_size() is None
    assert ModelInputs(("text",)).batch_size() is None


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_other_batches_hold_the_first_items_again_and_again(size):
    inputs = ModelInputs((torch.arange(3).view(3, 1), torch.tensor(5.0)), {"k": torch.arange(3)})
    resized = inputs.with_batch(size)
    expected = [i % 3 for i in range(size)]
    assert resized.args[0].flatten().tolist() == expected
    assert resized.kwargs["k"].tolist() == expected
    assert resized.args[1].item() == 5.0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_other_batches_keep_the_memory_format(size):
    images = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    (resized,) = ModelInputs((images,)).with_batch(size).tensors()
    assert resized.is_contiguous(memory_format=torch.channels_last)


def test_no_batch_to_resize_is_an_error():
    for tensors in [(torch.zeros(3), torch.zeros(2)), (torch.zeros(0, 3),), ()]:
        with pytest.raises(ValueError, match="example_inputs must have tensors"):
            ModelInputs(tensors).with_batch(2)
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        ModelInputs((torch.zeros(3),)).with_batch(0)


def test_a_tensor_that_is_there_twice_stays_one():
    x, y = torch.zeros(2), torch.zeros(2)
    found = ModelInputs((x, y), {"again": [x]}).map(torch.clone)
    assert found.kwargs["again"][0] is found.args[0]
    assert found.args[0] is not found.args[1]
    assert found.args[0] is not x
