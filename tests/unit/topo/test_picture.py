"""Whose each CPU is, and the streams: the same as pools and executors take."""

from __future__ import annotations

import pytest

from corestream.cpu import CPUPool, CPUSet, allowed_cpus, topology
from corestream.cpu.override import override_allowed
from corestream.topo.picture import describe_picture, read_picture
from tests.topologies.builder import Machine, build, cgroup_v2
from tests.topologies.machines import MACHINES


@pytest.mark.parametrize("num_streams", [1, 2, 3])
@pytest.mark.parametrize("name", [n for n in MACHINES if n != "one cpu"])
def test_streams_are_those_of_a_pool(root_of, picture_of, name, num_streams):
    root = root_of(name)
    picture = picture_of(name, num_streams=num_streams)
    with override_allowed(allowed_cpus(root), topology(root)):
        pool = CPUPool()
        assert picture.pool == tuple(pool.core_ids)
        assert [list(part) for part in picture.streams] == [
            part.core_ids for part in pool.split(num_streams)
        ]


def test_live_machine_is_the_default_pool():
    pool = CPUPool()
    picture = read_picture(num_streams=len(pool))
    assert picture.pool == tuple(pool.core_ids)
    assert picture.streams == tuple((cpu,) for cpu in pool.core_ids)


def test_states(picture_of):
    states = picture_of("cpuset 40-79", num_streams=4).states
    assert len(states) == 160
    assert {states[cpu] for cpu in range(40)} == {"outside"}
    assert {states[cpu] for cpu in range(80, 160)} == {"outside"}
    assert [states[cpu] for cpu in (40, 49, 50, 79)] == [0, 0, 1, 3]
    hybrid = picture_of("hybrid").states
    assert [hybrid[cpu] for cpu in (0, 1, 12)] == ["pool", "allowed", "allowed"]


def test_quota_shades_fewer_cpus(tmp_path):
    limits = {"": {"cpu.max": "250000 100000"}}
    root = build(tmp_path, Machine(cores=8, smt=2, cgroup=cgroup_v2("/", limits)))
    picture = read_picture(root)
    assert picture.pool == (0, 1)
    assert [picture.states[cpu] for cpu in (0, 1, 2, 8)] == ["pool", "pool", "allowed", "allowed"]


def test_cpus_keep_their_order(picture_of):
    picture = picture_of("epyc, 4 l3s per node", cpus="8-9,0-1", num_streams=2)
    assert picture.pool == (8, 9, 0, 1)
    assert picture.streams == ((8, 9), (0, 1))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_streams": 0}, r"num_streams must be from 1 to the 40 CPUs of the pool; got 0"),
        ({"num_streams": 41}, r"num_streams must be from 1 to the 40 CPUs of the pool; got 41"),
        ({"cpus": "39-41"}, r"cpus must be among the allowed CPUs; got '39-41'; .* are 40-79"),
        ({"cpus": "40,40"}, r"cpus must be named once each; got '40,40'"),
        ({"cpus": "x"}, r"cpus must be a CPU list"),
        ({"cpus": "40-41", "num_streams": 3}, r"the 2 CPUs of the pool; got 3"),
    ],
)
def test_wrong_options(picture_of, options, text):
    with pytest.raises(ValueError, match=text):
        picture_of("cpuset 40-79", **options)


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"root must be a folder .* got '.*none'; make one with"):
        read_picture(tmp_path / "none")


def test_a_folder_without_a_machine_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"root must be a folder with the text of a machine; got"):
        read_picture(tmp_path)


def test_description(root_of, picture_of):
    name = "epyc, 4 l3s per node"
    described = describe_picture(picture_of(name, num_streams=16), root=root_of(name))
    assert described["allowed_cpus"] == "0-127"
    assert CPUSet(described["pool"]) == CPUSet(range(64))
    assert described["streams"][3] == {
        "stream": 3,
        "core_ids": [12, 13, 14, 15],
        "numa_nodes": [0],
        "l3_domains": [1],
    }
    assert described["model_name"] is None
