"""Models by name: every kind of file, callables, and what is no model."""

from __future__ import annotations

import sys
import zipfile

import pytest
import torch

import corestream
from corestream.lowering.named_model import load_model
from corestream.measure.named import importable_from_here

SOURCE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)
        self.dropout = torch.nn.Dropout()
    def forward(self, x):
        return self.dropout(self.linear(x))

ready = Net()
number = 5
def function(): return lambda x: x + 1
def script(): return torch.jit.script(Net())
def broken(): raise RuntimeError("no weights")
def nothing(): return None
"""
EXAMPLE = torch.ones(3, 4)


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "nets_of_a_test.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    with importable_from_here():
        yield tmp_path
    sys.modules.pop("nets_of_a_test", None)


@pytest.mark.parametrize(
    ("name", "kind", "is_lowerable"),
    [
        ("Net", "module", True),
        ("ready", "module", True),
        ("function", "callable", False),
        ("script", "torchscript", False),
    ],
)
def test_what_a_name_may_be(here, name, kind, is_lowerable):
    model = load_model(f"nets_of_a_test:{name}")
    assert (model.kind, model.is_lowerable) == (kind, is_lowerable)
    assert model.as_callable()(EXAMPLE) is not None
    assert not getattr(model.source, "training", False)


def test_the_same_seed_makes_the_same_weights(here):
    first, again, other = (load_model("nets_of_a_test:Net", seed=seed) for seed in (1, 1, 2))
    weights = [model.source.linear.weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("number", "must be made by a callable; got 'nets_of_a_test:number', a int"),
        ("broken", "raised RuntimeError: no weights"),
        ("nothing", "must be something to call; got NoneType"),
        ("missing", "must name something in nets_of_a_test"),
    ],
)
def test_names_that_are_no_models(here, name, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        load_model(f"nets_of_a_test:{name}")
    assert str(caught.value).startswith("model ")


def test_files_are_told_apart_by_what_they_hold(tmp_path):
    model = torch.nn.Linear(4, 2).eval()
    expected = model(EXAMPLE)
    torch.jit.save(torch.jit.trace(model, EXAMPLE), tmp_path / "script.pt")
    torch.export.save(torch.export.export(model, (EXAMPLE,)), tmp_path / "exported.pt2")
    lowered = corestream.lower(model, EXAMPLE, backend="torchscript", num_streams=1)
    lowered.save(tmp_path / "lowered.pt2")
    for file, kind in (
        ("script.pt", "torchscript"),
        ("exported.pt2", "exported"),
        ("lowered.pt2", "lowered"),
    ):
        found = load_model(str(tmp_path / file))
        assert found.kind == kind
        torch.testing.assert_close(found.as_callable()(EXAMPLE), expected)
        assert not getattr(found.source, "training", False)


def test_a_package_is_found_and_not_loaded_yet(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr("model/data/aotinductor/model/x.so", b"")
    model = load_model(str(tmp_path / "model.pt2"))
    assert (model.kind, model.source) == ("package", tmp_path / "model.pt2")
    assert model.describe() == "an AOTInductor package"


def test_files_and_folders_that_are_no_models(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("hello")
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    with zipfile.ZipFile(tmp_path / "torn.pt", "w") as archive:
        archive.writestr("model/constants.pkl", b"")
    for name, complaint in (
        ("weights.pt", "must hold code as well as weights.*pass module:function$"),
        ("text.pt", "must be a file that torch wrote"),
        ("empty.zip", "must be a file that holds a model"),
        ("torn.pt", "must be a TorchScript module that torch can load"),
        ("", "which is a folder"),
    ):
        with pytest.raises(ValueError, match=complaint) as caught:
            load_model(str(tmp_path / name))
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"^model must exist; got 'none\.pt2'"):
        load_model("none.pt2")
