"""The space holds what may be best, within the cores there are, and all of it is connected."""

from __future__ import annotations

import pytest

from corestream.tuning.setting import STOCK, Setting
from corestream.tuning.space import SearchSpace, split_shapes, stream_shapes


def space_of(num_cores: int, *, request_items: int | None = None) -> SearchSpace:
    return SearchSpace(
        num_cores=num_cores,
        batch_sizes=(1, 4, 16) if request_items is None else (request_items,),
        backends=("torchscript", "eager"),
        stock_threads=num_cores,
        request_items=request_items,
    )


@pytest.mark.parametrize("num_cores", [1, 2, 3, 7, 16, 96, 128])
def test_shapes_fit_and_are_distinct(num_cores):
    shapes = stream_shapes(num_cores)
    assert all(streams * team <= num_cores for streams, team in shapes)
    assert len(set(shapes)) == len(shapes)
    assert {(num_cores, 1), (1, num_cores), (1, 1)} <= set(shapes)


def test_two_cores_have_three_shapes():
    assert stream_shapes(2) == [(2, 1), (1, 1), (1, 2)]


@pytest.mark.parametrize(("num_cores", "items"), [(1, 1), (2, 1), (4, 3), (16, 8), (128, 64)])
def test_split_requests_have_no_more_streams_than_items(num_cores, items):
    shapes = split_shapes(num_cores, items=items)
    assert all(streams <= items and streams * team <= num_cores for streams, team in shapes)
    assert (1, num_cores) in shapes


@pytest.mark.parametrize("request_items", [None, 1, 6])
@pytest.mark.parametrize("num_cores", [1, 2, 6, 16])
def test_every_setting_is_reached_from_the_coarse_net(num_cores, request_items):
    space = space_of(num_cores, request_items=request_items)
    reached = set(space.coarse)
    frontier = list(reached)
    while frontier:
        for neighbour in space.neighbours(frontier.pop()):
            assert neighbour in space.settings
            if neighbour not in reached:
                reached.add(neighbour)
                frontier.append(neighbour)
    assert reached == set(space.settings)
    assert len(space.coarse) <= len(space)


def test_parts_of_a_request_are_the_batch():
    space = space_of(4, request_items=6)
    batches = {one.num_streams: one.batch_size for one in space.settings if not one.is_stock}
    assert batches == {1: 6, 2: 3, 3: 2}
    assert [str(one) for one in space.stock] == ["stock threads=4 batch=6"]


def test_the_recommended_line():
    setting = Setting(num_streams=4, team_size=4, batch_size=1, backend="aotinductor")
    assert str(setting) == "streams=4 team_size=4 batch=1 backend=aotinductor"
    assert setting.num_cores == 16
    assert Setting(num_streams=1, team_size=8, batch_size=2, backend=STOCK).is_stock
