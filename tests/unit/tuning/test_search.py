"""Ask and tell: nothing twice, the same for the same seed, and not without end."""

from __future__ import annotations

import builtins

import optuna
import pytest

from corestream.tuning.optuna_search import OptunaSearch
from corestream.tuning.search import EXHAUSTIVE_UP_TO, LARGE_FROM, GridSearch, Search, make_search
from corestream.tuning.setting import Setting
from corestream.tuning.space import SearchSpace
from tests.unit.tuning.machines import PaperMachine


def space_of(num_cores: int, **options: object) -> SearchSpace:
    return SearchSpace(
        num_cores=num_cores,
        batch_sizes=(1, 2, 4, 8, 16, 32),
        backends=("torchscript", "aotinductor"),
        stock_threads=num_cores,
        **options,
    )


def asked(search: Search, machine: PaperMachine) -> list[Setting]:
    found = []
    while (setting := search.ask()) is not None:
        found.append(setting)
        search.tell(setting, machine.call_ms(setting) / setting.batch_size / setting.num_streams)
    return found


def machine_of(num_cores: int) -> PaperMachine:
    factors = (("torchscript", 1.0), ("aotinductor", 0.9))
    return PaperMachine(num_cores=num_cores, backend_factors=factors)


def test_a_small_space_is_tried_to_the_last():
    space = space_of(2)
    assert len(space) <= EXHAUSTIVE_UP_TO
    assert sorted(asked(GridSearch(space), machine_of(2))) == sorted(space.settings)


@pytest.mark.parametrize("num_cores", [16, 64, 128])
def test_nothing_is_asked_twice_and_a_large_space_not_whole(num_cores):
    space = space_of(num_cores)
    assert len(space) > LARGE_FROM
    for search in (GridSearch(space), OptunaSearch(space, seed=0)):
        found = asked(search, machine_of(num_cores))
        assert len(found) == len(set(found))
        assert len(found) < len(space) / 2
        assert set(found) <= set(space.settings)


def test_one_seed_asks_the_same():
    space = space_of(64)
    first, second, other = (
        asked(OptunaSearch(space, seed=seed), machine_of(64)) for seed in (1, 1, 2)
    )
    assert first == second != other


def test_failures_do_not_end_the_search():
    space = space_of(32)
    search = OptunaSearch(space, seed=0)
    good = 0
    while (setting := search.ask()) is not None:
        is_good = setting.backend == "torchscript"
        good += is_good
        search.tell(setting, 1.0 / setting.num_streams if is_good else float("inf"))
    assert good > 10


def test_optuna_keeps_its_own_voice():
    before = optuna.logging.get_verbosity()
    asked(OptunaSearch(space_of(16), seed=0), machine_of(16))
    assert optuna.logging.get_verbosity() == before


def test_the_size_decides_who_searches():
    notes: list[str] = []
    assert isinstance(make_search(space_of(4), seed=0, notes=notes), GridSearch)
    assert isinstance(make_search(space_of(128), seed=0, notes=notes), OptunaSearch)
    assert notes == []


def test_without_optuna_the_grid_searches_and_says_so(monkeypatch):
    real_import = builtins.__import__

    def without_optuna(name, *args, **kwargs):
        if name.split(".")[0] == "optuna":
            raise ModuleNotFoundError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_optuna)
    notes: list[str] = []
    assert isinstance(make_search(space_of(128), seed=0, notes=notes), GridSearch)
    assert len(notes) == 1
    assert "install corestream[search]" in notes[0]
