"""Nothing overlaps, nothing sticks out, every text has room: on every machine."""

from __future__ import annotations

import itertools

import pytest

from corestream.topo import page, terminal
from corestream.topo.cells import Cells
from corestream.topo.layout import CoreFrame, Frame, Patch, Words, lay_out
from corestream.topo.tree import boxes_of
from tests.topologies.machines import MACHINES


def areas(picture):
    """The layouts of a picture: in a terminal, without colours; on paper; each also folded."""
    boxes = boxes_of(picture.topology)
    for metrics, width in ((terminal.METRICS, 100), (page.METRICS, page.MAX_WIDTH)):
        for is_folded in (False, True):
            cells = Cells(picture, is_folded=is_folded, mark=terminal.mark_of)
            yield metrics, lay_out(boxes, cells, metrics=metrics, max_width=width)


def overlap(one, other):
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def contains(outer, inner):
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width
        and inner.y + inner.height <= outer.y + outer.height
    )


def neighbours(shapes):
    """Pairs that could overlap, found by a sweep downwards."""
    ordered = sorted(shapes, key=lambda shape: shape.y)
    for index, shape in enumerate(ordered):
        below = itertools.takewhile(
            lambda other, end=shape.y + shape.height: other.y < end, ordered[index + 1 :]
        )
        yield from ((shape, other) for other in below)


@pytest.mark.parametrize("num_streams", [None, 1])
@pytest.mark.parametrize("name", MACHINES)
def test_nothing_overlaps(picture_of, name, num_streams):
    for _, area in areas(picture_of(name, num_streams=num_streams)):
        for kind in ((Patch, Words), (CoreFrame, Words)):
            shapes = [shape for shape in area.shapes if isinstance(shape, kind)]
            assert [pair for pair in neighbours(shapes) if overlap(*pair)] == []
        frames = [shape for shape in area.shapes if isinstance(shape, Frame)]
        for one, other in itertools.combinations(frames, 2):
            assert not overlap(one, other) or contains(one, other) or contains(other, one)


@pytest.mark.parametrize("name", MACHINES)
def test_everything_lies_within_a_frame_and_the_picture(picture_of, name):
    for _, area in areas(picture_of(name)):
        frames = [shape for shape in area.shapes if isinstance(shape, Frame)]
        for shape in area.shapes:
            assert shape.x >= 0
            assert shape.y >= 0
            assert shape.x + shape.width <= area.width
            assert shape.y + shape.height <= area.height
            assert any(contains(frame, shape) for frame in frames)


@pytest.mark.parametrize("name", MACHINES)
def test_texts_have_room(picture_of, name):
    for metrics, area in areas(picture_of(name, num_streams=1)):
        for patch in area.shapes:
            if isinstance(patch, Patch):
                assert metrics.text_width(patch.text + patch.note) <= patch.width


@pytest.mark.parametrize("name", MACHINES)
def test_every_cpu_is_drawn_once(picture_of, name):
    picture = picture_of(name)
    boxes = boxes_of(picture.topology)
    cells = Cells(picture, is_folded=False, mark=lambda state: "")
    area = lay_out(boxes, cells, metrics=page.METRICS, max_width=page.MAX_WIDTH)
    drawn = [int(shape.text) for shape in area.shapes if isinstance(shape, Patch)]
    assert sorted(drawn) == list(picture.topology.online)


def test_wide_terminals_are_used(picture_of):
    picture = picture_of("epyc, 4 l3s per node")
    boxes = boxes_of(picture.topology)
    cells = Cells(picture, is_folded=False, mark=lambda state: "")
    heights = [
        lay_out(boxes, cells, metrics=terminal.METRICS, max_width=width).height
        for width in (60, 120, 240)
    ]
    assert heights[0] > heights[1] >= heights[2]
    narrow = lay_out(boxes, cells, metrics=terminal.METRICS, max_width=60)
    assert narrow.width <= 60
