"""Inputs in words and in files."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from corestream.measure.input_text import InputSpec, Range, load_inputs, parse_spec
from corestream.measure.named import importable_from_here


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("1x3x224x224", InputSpec((1, 3, 224, 224))),
        ("7:bfloat16", InputSpec((7,), "bfloat16")),
        ("scalar:float64", InputSpec((), "float64")),
        ("mask=2x8:bool", InputSpec((2, 8), "bool", "mask")),
        ("ids=8x128:int64[0,30000)", InputSpec((8, 128), "int64", "ids", Range(0, 30000))),
        ("3:uint8[0,255]", InputSpec((3,), "uint8", None, Range(0, 255, is_closed=True))),
        ("3:float32[-1.5,1e3]", InputSpec((3,), "float32", None, Range(-1.5, 1000.0, True))),
    ],
)
def test_what_an_item_says(text, spec):
    assert parse_spec(text) == spec


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"must be \[name=\]SIZExSIZE"),
        ("1x3x", r"got '1x3x'"),
        ("1x-3", r"got '1x-3'"),
        ("1*3:float32", r"got '1\*3:float32'"),
        ("2x0x3", r"sizes of at least 1"),
        ("2x3:float", r"dtype of float32, .*; got 'float'"),
        ("2x3:int64", r"integers must have a range; got '2x3:int64'; write int64\[0,100\)"),
        ("2x3:int64[0,30000", r"range like \[0,100\) or \[0,1\]; got '\[0,30000'"),
        ("2x3:int64[5,5)", r"not empty"),
        ("2x3:float32[2,1]", r"not empty"),
        ("2x3:int64[0,1.5)", r"range of integers"),
        ("2x3:int8[0,200)", r"must lie in -128 to 127"),
        ("2x3:uint8[-1,5)", r"must lie in 0 to 255"),
        ("2x3:bool[0,2]", r"must lie in 0 to 1"),
        ("2x3:float16[0,1e9]", r"must lie in -65504 to 65504"),
    ],
)
def test_what_is_said_of_other_items(text, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_spec(text)
    assert str(caught.value).startswith("inputs ")
    assert "\n" not in str(caught.value)


def test_positional_and_named_tensors_of_a_seed():
    texts = ["2x3", "4:int32[5,7]", "mask=2x8:bool"]
    first, again, other = (load_inputs(texts, seed=seed) for seed in (1, 1, 2))
    assert [tuple(t.shape) for t in first.args] == [(2, 3), (4,)]
    assert first.args[1].dtype == torch.int32
    assert set(first.args[1].tolist()) <= {5, 6, 7}
    assert first.kwargs["mask"].dtype == torch.bool
    assert torch.equal(first.args[0], again.args[0])
    assert not torch.equal(first.args[0], other.args[0])


def test_files_of_torch_and_numpy(tmp_path):
    torch.save({"ids": torch.tensor([[1, 2]])}, tmp_path / "inputs.pt")
    assert load_inputs([str(tmp_path / "inputs.pt")]).kwargs["ids"].tolist() == [[1, 2]]
    arrays = [np.full((2, n), n, np.float32) for n in range(1, 12)]
    np.savez(tmp_path / "many.npz", *arrays, mask=np.ones(3, bool))
    many = load_inputs([str(tmp_path / "many.npz")])
    assert [t.shape[1] for t in many.args] == list(range(1, 12))  # arr_10 comes after arr_9
    assert many.kwargs["mask"].tolist() == [True] * 3
    np.save(tmp_path / "one.npy", arrays[0])
    assert load_inputs([str(tmp_path / "one.npy")]).args[0].tolist() == [[1.0], [1.0]]


def test_a_callable_that_makes_inputs(tmp_path, monkeypatch):
    (tmp_path / "makes_inputs.py").write_text(
        "import torch\n"
        "def good(): return (torch.ones(2), torch.ones(3))\n"
        "def bad(): raise KeyError('no data')\n"
        "def odd(): return 5\n"
        "number = 5\n"
    )
    monkeypatch.chdir(tmp_path)
    with importable_from_here():
        assert len(load_inputs(["makes_inputs:good"]).args) == 2
        for name, complaint in (
            ("bad", "raised KeyError: 'no data'"),
            ("odd", "example_inputs must be a tensor"),
            ("number", "must name a callable that returns inputs; got 'makes_inputs:number'"),
        ):
            with pytest.raises(ValueError, match=complaint):
                load_inputs([f"makes_inputs:{name}"])
    sys.modules.pop("makes_inputs", None)


def test_what_is_said_of_no_inputs_and_of_too_many(tmp_path):
    for texts, complaint in (
        ([], "inputs must be given; got none"),
        (["a.pt", "2x3"], r"single file or module:callable.*got 'a.pt' among 2 items"),
        (["2x3", "m:f"], "got 'm:f' among 2 items"),
        (["a=2", "a=3"], r"names of their own; got \['a', 'a'\]"),
    ):
        with pytest.raises(ValueError, match=complaint):
            load_inputs(texts)
    with pytest.raises(FileNotFoundError, match="inputs must be a file that exists"):
        load_inputs([str(tmp_path / "none.pt")])


def test_a_file_without_tensors_is_named(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    torch.save("hello", tmp_path / "string.pt")
    for name in ("text.pt", "string.pt"):
        with pytest.raises(ValueError, match=rf"a file of tensors.*{name}") as caught:
            load_inputs([str(tmp_path / name)])
        assert "\n" not in str(caught.value)
