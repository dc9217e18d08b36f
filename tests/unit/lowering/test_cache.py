from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from corestream.lowering.aoti_export import export_program
from corestream.lowering.cache import ModelCache, default_folder, program_key
from corestream.measure.inputs import ModelInputs
from tests.unit.lowering.compiled import build, compiled_net, make_inputs, make_net, request

# The first test of a session compiles.
pytestmark = pytest.mark.timeout(900)

KEY = "0" * 64


@pytest.fixture(scope="module")
def artifact():
    return compiled_net().artifact


@pytest.fixture
def cache(tmp_path):
    return ModelCache(tmp_path / "cache")


def entries(cache: ModelCache) -> list[str]:
    return sorted(path.name for path in cache.folder.iterdir())


def test_the_same_program_is_compiled_once():
    compiled = compiled_net()
    assert len(list(compiled.cache.iterdir())) == 1
    again = build(request(make_net(), make_inputs(4, seed=9)), cache=compiled.cache)
    assert any(note.startswith("not compiled: taken from ") for note in again.notes)
    inputs = make_inputs(3)
    first, second = (a.call(inputs.args, inputs.kwargs) for a in (compiled.artifact, again))
    assert torch.equal(first["logits"], second["logits"])


class Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def program_of(model: nn.Module, *, batch: int = 4, dynamic: bool = True):
    with torch.no_grad():
        return export_program(
            model.eval(), ModelInputs.of(torch.zeros(batch, 3)), dynamic_batch=dynamic
        )


def key_of(model: nn.Module, *settings: object, **options: object) -> str:
    return program_key(program_of(model, **options), settings=settings)


def linear(bias: float = 0.0) -> nn.Linear:
    torch.manual_seed(1)
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.bias[1] = bias
    return layer


def test_the_key_depends_on_all_that_is_compiled():
    same = key_of(linear())
    assert same == key_of(linear())
    changed_forward = linear()
    changed_forward.forward = lambda x: torch.nn.functional.linear(
        x, changed_forward.weight, -changed_forward.bias
    )
    others = [
        key_of(linear(bias=1e-7)),
        key_of(linear().bfloat16().float()),
        key_of(linear(), "team of 2"),
        key_of(linear(), dynamic=False),
        key_of(linear(), batch=3, dynamic=False),
        key_of(nn.Sequential(linear(), nn.ReLU())),
        key_of(changed_forward),
        key_of(Twice()),
    ]
    assert len({same, *others}) == 1 + len(others)


def test_inductors_own_settings_are_in_the_key():
    from torch._inductor import config

    program = program_of(linear())
    before = program_key(program, settings=())
    with config.patch({"cpp.simdlen": 1}):
        assert program_key(program, settings=()) != before


def test_an_entry_comes_back(cache, artifact):
    notes: list[str] = []
    assert cache.find(KEY, notes) is None
    cache.store(KEY, artifact, notes=notes)
    assert notes == []
    found = cache.find(KEY, notes)
    assert found is not None
    assert found.weight_bytes == artifact.weight_bytes
    assert notes == [f"not compiled: taken from {cache.folder / KEY}.pt2"]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not really", b"#!/bin/sh\n"])
def test_what_cannot_be_read_is_ignored_and_replaced(cache, artifact, damage):
    cache.folder.mkdir()
    (cache.folder / f"{KEY}.pt2").write_bytes(damage)
    notes: list[str] = []
    assert cache.find(KEY, notes) is None
    assert len(notes) == 1
    assert notes[0].startswith("ignored a cache entry: ")
    cache.store(KEY, artifact, notes=notes)
    assert cache.find(KEY, notes) is not None


def test_the_least_recently_used_goes_first(cache, artifact):
    for number in range(3):
        cache.store(str(number), artifact, notes=[])
        os.utime(cache.folder / f"{number}.pt2", (1000 + number, 1000 + number))
    (cache.folder / "notes.txt").write_text("the user's")
    size = (cache.folder / "0.pt2").stat().st_size
    assert cache.find("0", []) is not None  # used just now
    small = ModelCache(cache.folder, limit_bytes=3 * size + 100)
    small.store("3", artifact, notes=[])
    assert entries(cache) == ["0.pt2", "2.pt2", "3.pt2", "notes.txt"]


def test_an_entry_larger_than_the_cache_is_not_kept(tmp_path, artifact):
    cache, notes = ModelCache(tmp_path, limit_bytes=1000), []
    cache.store(KEY, artifact, notes=notes)
    assert entries(cache) == []
    assert notes == ["not kept in the cache: larger than its 1000 bytes"]


def test_a_folder_that_cannot_be_written_is_a_note(tmp_path, artifact):
    (tmp_path / "file").touch()
    cache, notes = ModelCache(tmp_path / "file" / "cache"), []
    assert cache.find(KEY, notes) is None
    cache.store(KEY, artifact, notes=notes)
    assert [note.partition(":")[0] for note in notes][-1] == "not kept in the cache"


def test_writers_at_once_leave_whole_entries(cache, artifact):
    cache.folder.mkdir()
    abandoned = cache.folder / ".corestream-abandoned.tmp"
    abandoned.touch()
    os.utime(abandoned, (1000, 1000))
    notes: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: cache.store(str(n % 2), artifact, notes=notes), range(8)))
    assert notes == []
    assert entries(cache) == ["0.pt2", "1.pt2"]
    assert cache.find("0", []) is not None
    assert cache.find("1", []) is not None


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "corestream"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "corestream"
    assert ModelCache.of(False) is None
    assert ModelCache.of(True).folder == default_folder()
    assert ModelCache.of("~/here").folder == tmp_path / "here"


def test_a_cache_that_vanishes_is_made_again(cache, artifact):
    cache.store(KEY, artifact, notes=[])
    shutil.rmtree(cache.folder)
    notes: list[str] = []
    assert cache.find(KEY, notes) is None
    cache.store(KEY, artifact, notes=notes)
    assert notes == []
    assert Path(cache.folder, f"{KEY}.pt2").exists()
