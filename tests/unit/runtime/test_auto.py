"""What "AUTO" comes to: a profile that fits, else what the model's sizes suggest."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from corestream import CPUPool, MultiStreamModule, TaskExecutor, _lowering
from corestream.cpu import CPUSet
from corestream.cpu.machine import Topology
from corestream.cpu.override import override_allowed
from corestream.cpu.partition import partition
from corestream.cpu.topology import topology
from corestream.errors import CorestreamWarning
from corestream.profiles import Profile, save_profile
from corestream.runtime.auto import choose_streams, profile_key
from corestream.runtime.model_facts import ModelFacts, facts_of_call, facts_of_weights
from corestream.runtime.model_structure import model_structure
from corestream.runtime.stream_cost import possible_cuts
from tests.topologies.builder import Machine, build
from tests.topologies.machines import MACHINES
from tests.unit.runtime.stream_cases import machine_of, running, scripted

MIB = 2**20

# Sizes of the four kinds of model that docs/tune.md measures.
SMALL_CNN = ModelFacts(0.6e9, 14 * MIB, 53 * MIB, 4.6 * MIB, 118)
RESNET = ModelFacts(8.2e9, 98 * MIB, 130 * MIB, 3 * MIB, 143)
TRANSFORMER = ModelFacts(22e9, 325 * MIB, 60 * MIB, 1.5 * MIB, 200)
BIG_MLP = ModelFacts(0.1e9, 192 * MIB, 0.06 * MIB, 0.02 * MIB, 4)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def epyc(tmp_path_factory) -> Topology:
    """Two packages of 4 L3 domains of 8 cores, 32 MiB each."""
    return topology(build(tmp_path_factory.mktemp("epyc"), MACHINES["epyc, 4 l3s per node"]))


def streams_on(machine: Topology, facts: ModelFacts, *, num_cores: int, batch: int | None) -> int:
    with override_allowed(CPUSet(range(num_cores)), machine):
        return choose_streams(
            CPUPool(range(num_cores)),
            model=None,
            count_facts=lambda: replace(facts, batch_size=batch),
        ).num_streams


@pytest.mark.parametrize("facts", [SMALL_CNN, RESNET, TRANSFORMER])
def test_with_many_items_a_core_a_stream_where_arithmetic_decides(epyc, facts):
    assert streams_on(epyc, facts, num_cores=8, batch=64) == 8
    assert streams_on(epyc, facts, num_cores=64, batch=512) == 64


@pytest.mark.parametrize("facts", [SMALL_CNN, RESNET, TRANSFORMER, BIG_MLP])
def test_one_item_gets_a_whole_l3_domain_and_not_more(epyc, facts):
    assert streams_on(epyc, facts, num_cores=8, batch=1) == 1
    assert streams_on(epyc, facts, num_cores=16, batch=1) == 2
    assert streams_on(epyc, facts, num_cores=64, batch=1) == 8


def test_no_core_is_left_without_an_item(epyc):
    assert streams_on(epyc, RESNET, num_cores=16, batch=4) <= 4
    assert streams_on(epyc, RESNET, num_cores=64, batch=32) <= 32


def test_weights_that_exceed_the_cache_are_not_read_by_every_core(epyc):
    assert streams_on(epyc, BIG_MLP, num_cores=8, batch=8) == 1
    assert streams_on(epyc, BIG_MLP, num_cores=16, batch=16) == 2
    in_cache = replace(BIG_MLP, weight_bytes=4 * MIB, flops=2e6)
    assert streams_on(epyc, in_cache, num_cores=8, batch=64) == 8


def test_what_is_too_short_for_barriers_stays_on_one_core(epyc):
    tiny = ModelFacts(1500.0, 3000, 256, 64, 4)
    assert streams_on(epyc, tiny, num_cores=8, batch=1) == 8


# To write the text of a thousand CPUs takes longer than all the rest.
@pytest.mark.parametrize("name", sorted(set(MACHINES) - {"more than 1024 cpus"}))
def test_no_cut_crosses_a_numa_node_or_avoidably_an_l3_domain(name, tmp_path):
    machine = topology(build(tmp_path, MACHINES[name]))
    cores = machine.one_cpu_per_core(machine.online)[:96]
    for facts in (SMALL_CNN, BIG_MLP):
        for batch in (1, 7, 64):
            streams = streams_of(machine, facts, cores, batch)
            places = [
                {machine.locality(cpu) for cpu in part}
                for part in partition(cores, streams, topology=machine)
            ]
            assert all(len({place[:2] for place in found}) == 1 for found in places)
            assert all(len(found) == 1 for found in places)


def streams_of(machine: Topology, facts: ModelFacts, cores: list[int], batch: int) -> int:
    with override_allowed(CPUSet(cores), machine):
        return choose_streams(
            CPUPool(cores), model=None, count_facts=lambda: replace(facts, batch_size=batch)
        ).num_streams


def test_remnants_of_l3_domains_may_be_joined_within_their_node(tmp_path):
    machine = topology(build(tmp_path, Machine(nodes=1, l3s=4, cores=1)))
    cuts = possible_cuts([0, 1, 2, 3], topology=machine)
    assert [cut.num_streams for cut in cuts] == [4, 2, 1]
    assert [cut.is_far for cut in cuts] == [False, True, True]


def test_counted_facts_are_those_of_the_model():
    model = nn.Sequential(
        nn.Embedding(1000, 64), nn.Flatten(), nn.Linear(64 * 3, 50), nn.ReLU(), nn.Linear(50, 7)
    ).eval()
    facts = facts_of_call(model, lambda: model(torch.zeros(1, 3).long()), batch_size=5)
    assert facts is not None
    assert facts.flops == 2 * (192 * 50 + 50 * 7)
    # Rows of the table are not read whole.
    assert facts.weight_bytes == 4 * (192 * 50 + 50 + 50 * 7 + 7)
    assert facts.batch_size == 5


def test_counting_leaves_the_model_and_its_failures_alone():
    model = nn.Linear(4, 4).eval()
    assert facts_of_call(model, lambda: model(torch.zeros(1, 5)), batch_size=1) is None
    assert torch.is_grad_enabled()


def test_weights_are_seen_in_modules_and_frozen_scripts():
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64)).eval()
    expected = facts_of_weights(model)
    assert expected is not None
    assert expected.weight_bytes == 2 * 64 * 128 * 4
    frozen = torch.jit.freeze(torch.jit.trace(model, torch.zeros(1, 64)))
    assert facts_of_weights(frozen) == expected
    assert facts_of_weights(nn.ReLU()) is None


def test_a_model_that_nothing_is_known_of_gets_a_stream_per_core():
    with machine_of(5) as pool:
        choice = choose_streams(pool, model=lambda x: x)
        assert (choice.num_streams, choice.source) == (5, "default")


def test_the_example_decides_for_streams(monkeypatch):
    model = nn.Sequential(nn.Linear(512, 2048), nn.ReLU(), nn.Linear(2048, 512)).eval()
    # What it is lowered to is another matter, and takes long.
    monkeypatch.setattr(_lowering, "lower_for_streams", lambda *_, model, **__: scripted(model))
    with (
        machine_of(2) as pool,
        running(model, "AUTO", pool, example_inputs=torch.rand(1, 512)) as streams,
    ):
        # One item: both cores work on it.
        assert streams.get_stream_number() == 1
        assert streams.auto.source == "estimate"
        assert "calls of 1 items" in streams.auto.reason
        assert streams(torch.rand(3, 512)).shape == (3, 512)


def test_a_given_number_has_no_choice_and_takes_no_profile():
    with machine_of(2) as pool:
        with running(scripted(nn.Identity()), 2, pool) as streams:
            assert streams.auto is None
        with pytest.raises(ValueError, match='num_streams must be "AUTO" for a profile'):
            MultiStreamModule(scripted(nn.Identity()), 2, pool, profile="some.json")
        with pytest.raises(ValueError, match='num_streams must be "AUTO" for a profile'):
            TaskExecutor(pool, 2, profile="some.json")
        with pytest.raises(ValueError, match='num_streams must be an int or "AUTO"'):
            TaskExecutor(pool, "auto")


def profile_for(model: nn.Module, pool: CPUPool, **changes: object) -> Profile:
    profile = Profile(
        key=profile_key(model, pool),
        objective="throughput",
        num_streams=2,
        team_size=2,
        batch_size=8,
        backend="torchscript",
        is_stock_best=False,
        verdict="1.40 times the throughput of stock",
        made="2026-11-27",
    )
    return replace(profile, **changes)


def test_a_saved_profile_is_followed():
    model = scripted(nn.Linear(3, 3))
    with machine_of(6) as pool:
        save_profile(profile_for(model, pool))
        with running(model, "AUTO", pool) as streams:
            assert streams.auto.source == "profile"
            assert streams.get_stream_number() == 2
            # Two streams of two cores leave two of the six alone.
            assert [info.team_size for info in streams.executor.streams] == [2, 2]
        with TaskExecutor(pool, "AUTO", model=model) as executor:
            assert (executor.num_streams, executor.auto.source) == (2, "profile")


def test_a_profile_given_by_path_or_value_is_followed(tmp_path):
    model = scripted(nn.Linear(3, 3))
    with machine_of(4) as pool:
        profile = profile_for(model, pool)
        path = save_profile(profile, tmp_path / "mine.json")
        for given in (profile, path, str(path)):
            with TaskExecutor(pool, "AUTO", profile=given) as executor:
                assert [info.team_size for info in executor.streams] == [2, 2]
        with pytest.raises(TypeError, match="profile must be a Profile or the path of one"):
            TaskExecutor(pool, "AUTO", profile=3)
        with pytest.raises(FileNotFoundError):
            TaskExecutor(pool, "AUTO", profile=tmp_path / "none.json")


def test_a_given_profile_of_other_hardware_is_an_error_that_names_it():
    model = scripted(nn.Linear(3, 3))
    with machine_of(4) as pool:
        other = profile_for(model, pool)
        other = replace(other, key=replace(other.key, cpu_model="Another", torch="1.0"))
        with pytest.raises(ValueError, match=r"the CPU model is .* here and 'Another' in the prof"):
            MultiStreamModule(model, "AUTO", pool, profile=other)
        with pytest.raises(ValueError, match="the torch version is"):
            TaskExecutor(pool, "AUTO", profile=other)
        with pytest.raises(ValueError, match="the model's structure is"):
            MultiStreamModule(scripted(nn.ReLU()), "AUTO", pool, profile=profile_for(model, pool))


def test_a_saved_profile_of_other_hardware_is_refused_and_noted():
    model = scripted(nn.Linear(3, 3))
    with machine_of(4) as pool:
        other = profile_for(model, pool)
        save_profile(replace(other, key=replace(other.key, cpu_model="Another")))
        with running(model, "AUTO", pool) as streams:
            assert streams.auto.source == "estimate"
            assert "'Another' in the profile" in streams.auto.notes[0]


def test_compiled_code_keeps_to_the_teams_it_was_compiled_for():
    class Compiled(nn.Linear):
        backend, team_size = "aotinductor", 1

    model = Compiled(3, 3).eval()
    with machine_of(4) as pool:
        save_profile(profile_for(model, pool))
        choice = choose_streams(pool, model=model)
        assert (choice.num_streams, choice.source) == (4, "lowering")
        assert "a profile is for teams of 2" in choice.notes[0]


def test_where_stock_was_faster_the_profile_says_so():
    model = scripted(nn.Linear(3, 3))
    with machine_of(4) as pool:
        save_profile(profile_for(model, pool, is_stock_best=True, verdict="0.8 times stock"))
        with (
            pytest.warns(CorestreamWarning, match="0.8 times stock; call the model itself"),
            running(model, "AUTO", pool) as streams,
        ):
            assert streams.get_stream_number() == 2


class TestStructure:
    def test_weights_do_not_matter_and_shapes_do(self):
        assert model_structure(nn.Linear(3, 4)) == model_structure(nn.Linear(3, 4))
        different = [nn.Linear(3, 4), nn.Linear(4, 3), nn.Linear(3, 4, bias=False), nn.ReLU()]
        different += [nn.Conv2d(1, 1, 3, stride=1), nn.Conv2d(1, 1, 3, stride=2)]
        different += [nn.Linear(3, 4).bfloat16(), nn.Sequential(nn.Linear(3, 4))]
        assert len({model_structure(model) for model in different}) == len(different)

    def test_scripts_and_callables_have_one_too(self):
        models = [nn.Sequential(nn.Linear(3, 3), nn.ReLU()).eval() for _ in range(2)]
        frozen = [torch.jit.freeze(torch.jit.trace(m, torch.ones(1, 3))) for m in models]
        assert model_structure(frozen[0]) == model_structure(frozen[1])
        assert model_structure(frozen[0]) != model_structure(scripted(nn.ReLU()))
        assert model_structure(torch.relu) != model_structure(torch.sigmoid)

    def test_a_package_is_its_bytes(self, tmp_path):
        for name, text in (("a.pt2", "1"), ("b.pt2", "1"), ("c.pt2", "2")):
            (tmp_path / name).write_text(text)
        a, b, c = (model_structure(tmp_path / name) for name in ("a.pt2", "b.pt2", "c.pt2"))
        assert a == b != c

    def test_another_process_finds_the_same(self):
        program = (
            "from torch import nn; from corestream.runtime.model_structure import model_structure;"
            "print(model_structure(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        )
        here = model_structure(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()))
        assert done.stdout.strip() == here

    def test_a_lowered_model_has_that_of_its_origin(self):
        import corestream

        model = nn.Sequential(nn.Linear(3, 3), nn.ReLU()).eval()
        lowered = corestream.lower(model, torch.rand(4, 3), backend="torchscript")
        assert model_structure(lowered) == model_structure(model)
