from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from corestream.errors import CorestreamWarning, ModelFileError
from corestream.lowering.eager import EagerArtifact
from corestream.lowering.model import LoweredModule
from corestream.lowering.report import CandidateReport, LoweringReport
from corestream.lowering.saved import load
from tests.unit.lowering.compiled import compiled_net, make_inputs, make_net

# The first test of a session compiles.
pytestmark = pytest.mark.timeout(900)

REPORT = LoweringReport(
    candidates=(CandidateReport("aotinductor", None, holds_gil=False, is_chosen=True),),
    team_size=2,
    num_streams=1,
    batch_sizes=(4,),
    notes=("a note",),
)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path_factory, monkeypatch):
    """Other processes' folders do not count."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))


def temporary_folders() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).iterdir()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "net.pt2"
    return LoweredModule(compiled_net().artifact, REPORT).save(path)


def changed(saved: Path, path: Path, **values: object) -> Path:
    """A copy of the file with other values in its manifest; None removes the entry."""
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "model/corestream.json":
                manifest = {**json.loads(data), **values}
                data = json.dumps({k: v for k, v in manifest.items() if v is not None}).encode()
            new.writestr(name, data)
    return path


def test_it_comes_back_as_it_was(saved):
    before = temporary_folders()
    lowered = load(saved)
    assert lowered.report == REPORT
    assert lowered.backend == "aotinductor"
    assert lowered.team_size == 2
    inputs = make_inputs(3)
    original = LoweredModule(compiled_net().artifact, REPORT)
    assert torch.equal(inputs.call(lowered)["logits"], inputs.call(original)["logits"])
    again = load(lowered.save(saved.with_name("again")))
    assert torch.equal(inputs.call(again)["logits"], inputs.call(original)["logits"])
    del lowered, again
    assert temporary_folders() == before


PROGRAM = """
import sys, corestream, torch
from torch.utils import _pytree
lowered = corestream.load(sys.argv[1])
inputs = torch.load(sys.argv[2])
executor = corestream.TaskExecutor(corestream.CPUPool(corestream.allowed_cpus()))
task = corestream.Task(lowered, executor)
args, kwargs = inputs["args"], inputs["kwargs"]
outputs = [lowered(*args, **kwargs), task(*args, **kwargs).get()]
torch.save([output["logits"] for output in outputs], sys.argv[3])
assert "torch._inductor.compile_fx" not in sys.modules, "the compiler was loaded"
"""


def test_a_fresh_process_runs_it_without_the_compiler(saved, tmp_path):
    inputs = make_inputs(6)
    torch.save({"args": inputs.args, "kwargs": inputs.kwargs}, tmp_path / "inputs")
    before = temporary_folders()
    subprocess.run(
        [sys.executable, "-c", PROGRAM, saved, tmp_path / "inputs", tmp_path / "outputs"],
        check=True,
    )
    with torch.no_grad():
        expected = inputs.call(make_net())["logits"]
    for output in torch.load(tmp_path / "outputs"):
        torch.testing.assert_close(output, expected)
    assert temporary_folders() == before


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must be a file.*no-such"):
        load(tmp_path / "no-such")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 0.9999])
def test_a_file_that_was_cut_short(saved, tmp_path, share):
    data = saved.read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * share)])
    before = temporary_folders()
    with pytest.raises(ModelFileError, match="cut short"):
        load(path)
    assert temporary_folders() == before


def test_a_changed_byte(saved, tmp_path):
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "changed"
    path.write_bytes(data)
    before = temporary_folders()
    with pytest.raises(ModelFileError, match=r"damaged.*CRC"):
        load(path)
    assert temporary_folders() == before


def test_other_kinds_of_files(tmp_path):
    script = torch.jit.script(nn.Linear(2, 2))
    script.save(tmp_path / "script.pt")
    (tmp_path / "text").write_text("weights")
    with pytest.raises(ModelFileError, match=r"another kind of archive.*to Task"):
        load(tmp_path / "script.pt")
    with pytest.raises(ModelFileError, match="something else"):
        load(tmp_path / "text")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"torch": "2.0.1"}, r"made for torch 2\.0\.1; got .*lower and save the model again here"),
        ({"machine": "s390x"}, "made for machines of the kind s390x"),
        ({"instruction_sets": ["avx9", "amx_int99"]}, "instruction sets amx_int99, avx9, which"),
        ({"format_version": 99}, "format version 1; got version 99"),
        ({"kind": "else"}, "of 'else'"),
        ({"backend": "other"}, "KeyError: 'other'"),
        ({"backend": None}, "KeyError: 'backend'"),
        ({"files": {"../../evil": 1}}, "'../../evil' leaves the archive"),
        ({"files": {"missing": 1}}, "missing"),
        ({"facts": {}}, "report"),
    ],
)
def test_what_differs_is_said(saved, tmp_path, values, reason):
    path = changed(saved, tmp_path / "other", **values)
    before = temporary_folders()
    with pytest.raises(ModelFileError, match=reason):
        load(path)
    assert temporary_folders() == before


def test_a_cpu_that_could_do_better_is_a_warning(saved, tmp_path):
    path = changed(saved, tmp_path / "weak", cpu_capability="DEFAULT", instruction_sets=[])
    with pytest.warns(CorestreamWarning, match="made for DEFAULT and runs on"):
        lowered = load(path)
    assert make_inputs(2).call(lowered)["logits"].shape == (2, 5)


def test_pickles_need_consent(tmp_path):
    lowered = LoweredModule(EagerArtifact(nn.Linear(3, 2).eval()), REPORT)
    path = lowered.save(tmp_path / "eager")
    with pytest.raises(ModelFileError, match="allow_pickle=True"):
        load(path)
    x = torch.randn(4, 3)
    assert torch.equal(load(path, allow_pickle=True)(x), lowered(x))


class Failing(EagerArtifact):
    def write(self, folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")


def test_saving_is_all_or_nothing(saved, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"the old one")
    before = temporary_folders()
    with pytest.raises(OSError, match="No space"):
        LoweredModule(Failing(nn.Linear(3, 2)), REPORT).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    assert path.read_bytes() == b"the old one"
    load(saved).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    load(path)
    with pytest.raises(FileNotFoundError):
        load(saved).save(tmp_path / "no-such-folder" / "model")
    assert temporary_folders() == before


FORKING = """
import os, sys
from corestream.lowering.folders import OwnedFolder
folder = OwnedFolder()
child = os.fork()
if child == 0:
    sys.exit()
os.waitpid(child, 0)
assert folder.path.exists(), "the child removed it"
print(folder.path)
"""


def test_a_forked_child_leaves_the_parents_folder():
    done = subprocess.run(
        [sys.executable, "-c", FORKING], check=True, capture_output=True, text=True
    )
    assert not Path(done.stdout.strip()).exists()
