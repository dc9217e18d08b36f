from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corestream.ops import interleave_channels

DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64]


def shuffled(parts):
    return torch.stack(parts, 2).flatten(1, 2)


def make_parts(count, channels, *, batch=2, size=(3, 5), dtype=torch.float32):
    shape = (batch, channels, *size)
    parts = [torch.randint(0, 100, shape).to(dtype) for _ in range(count)]
    if len(size) != 2:
        return parts
    return [part.contiguous(memory_format=torch.channels_last) for part in parts]


@given(
    count=st.integers(1, 5),
    channels=st.integers(1, 70),
    batch=st.integers(0, 3),
    size=st.sampled_from([(), (4,), (1, 1), (3, 5), (0, 2), (2, 3, 2)]),
    dtype=st.sampled_from(DTYPES),
)
def test_it_is_a_stack_for_any_shape(count, channels, batch, size, dtype):
    parts = make_parts(count, channels, batch=batch, size=size, dtype=dtype)
    assert torch.equal(interleave_channels(parts), shuffled(parts))


@pytest.mark.parametrize("count", [2, 3])
def test_slices_of_channels_are_read_where_they_lie(count):
    (whole,) = make_parts(1, 12)
    parts = whole.chunk(count, dim=1)
    result = interleave_channels(parts)
    assert torch.equal(result, torch.nn.functional.channel_shuffle(whole, count))
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part[:, :, ::2],
        lambda part: part[:, :, :, 1:],
        lambda part: part.contiguous(),
        lambda part: part[1:].expand(2, -1, -1, -1),
        lambda part: part.transpose(2, 3),
    ],
    ids=["rows left out", "cropped", "channels first", "one item for all", "transposed"],
)
@pytest.mark.parametrize("changes_both", [True, False])
def test_other_layouts_are_right_too(change, changes_both):
    left, right = make_parts(2, 6, size=(4, 4))
    changed = change(left)
    other = change(right) if changes_both else change(right).clone()
    assert torch.equal(interleave_channels([changed, other]), shuffled([changed, other]))


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_team_divides_the_pixels(num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        parts = make_parts(2, 58, size=(28, 28))
        assert torch.equal(interleave_channels(parts), shuffled(parts))
    finally:
        torch.set_num_threads(before)


def test_conjugates_are_resolved():
    parts = [part.conj() for part in make_parts(2, 3, dtype=torch.complex64)]
    assert torch.equal(interleave_channels(parts), shuffled(parts))


def test_gradients_are_torchs():
    parts = [part.double().requires_grad_() for part in make_parts(2, 3)]
    assert torch.autograd.gradcheck(lambda *args: interleave_channels(args), parts)


def test_the_operator_keeps_its_promises_to_the_compiler():
    for parts in (make_parts(2, 6), make_parts(2, 6, size=(4,))):
        torch.library.opcheck(torch.ops.corestream.interleave_channels.default, (parts,))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([torch.zeros(3)], "got 1 dims"),
        ([torch.zeros(2, 3), torch.zeros(2, 4)], "must have one shape"),
        ([torch.zeros(2, 3), torch.zeros(2, 3, 1)], "must have one shape"),
        ([torch.zeros(2, 3), torch.zeros(2, 3).bfloat16()], "must have one dtype"),
    ],
)
def test_what_cannot_be_interleaved_is_refused(parts, reason):
    with pytest.raises(RuntimeError, match=reason):
        interleave_channels(parts)


def test_no_parts_are_refused():
    with pytest.raises(ValueError, match=r"must hold a tensor; got \[\]"):
        interleave_channels([])
