"""Where a warning of a traced model is said to belong."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from corestream.lowering.attention import AttentionScout
from corestream.lowering.tracing_warnings import warnings_as_notes

HERE = __file__


def of_the_model(x):
    warnings.warn("look at this. And more", stacklevel=1)
    return x


def of_a_function_of_torch(x):
    return nn.functional.softmax(x)


def of_a_method(x):
    return x if x.sum() > 0 else -x


def traced(model):
    x = torch.ones(2, 3)
    # A mode of ours, by which all calls of torch pass.
    with warnings_as_notes() as notes, AttentionScout():
        torch.jit.trace(model, (x,), check_trace=False)
    return notes


@pytest.mark.parametrize("model", [of_the_model, of_a_function_of_torch, of_a_method])
def test_a_note_names_the_line_of_the_model(model):
    line = model.__code__.co_firstlineno + 1
    (note,) = traced(model)
    assert note.endswith(f"({HERE}:{line})")


def test_what_torch_says_of_its_own_code_is_left_out():
    layer = nn.LSTM(3, 4).eval()
    assert traced(layer) == []


def test_each_is_noted_once_and_up_to_its_first_sentence():
    def model(x):
        return of_the_model(of_the_model(x))

    (note,) = traced(model)
    assert note.startswith("UserWarning: look at this (")
