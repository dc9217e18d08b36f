from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corestream.ops import multiply_transposed

# float64 has no kernel of ours.
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float64: 1e-12}


def matrices(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def check(left, right):
    expected = left.double() @ right.double().transpose(1, 2)
    actual = multiply_transposed(left, right)
    assert actual.dtype == left.dtype
    assert actual.is_contiguous()
    limit = LIMITS[left.dtype] * max(1.0, float(expected.abs().max()) if expected.numel() else 1.0)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=limit)


@given(
    batch=st.integers(0, 5),
    rows=st.integers(0, 110),
    columns=st.integers(0, 110),
    depth=st.integers(0, 70),
    dtype=st.sampled_from(list(LIMITS)),
)
def test_any_shape(batch, rows, columns, depth, dtype):
    left = matrices(batch, rows, depth, dtype=dtype)
    check(left, matrices(batch, columns, depth, dtype=dtype, seed=1))


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[:, :, 1:33],
        lambda x: x[:, ::2, :32],
        lambda x: x[:1].expand(4, -1, -1)[:, :, :32],
        lambda x: x.transpose(1, 2)[:, :32].transpose(1, 2),
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)[:, :, :32],
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1)[:, :, :32],
    ],
    ids=["odd start", "rows left out", "one for all", "same", "columns adjacent", "batch inside"],
)
def test_other_layouts_are_right_too(change, dtype):
    left = change(matrices(4, 27, 35, dtype=dtype))
    check(left, matrices(4, 9, 32, dtype=dtype, seed=1))
    check(matrices(4, 9, 32, dtype=dtype, seed=1), left)
    check(left, left)


def test_gradients_are_those_of_torch():
    left, right = matrices(2, 3, 8).requires_grad_(), matrices(2, 5, 8, seed=1).requires_grad_()
    multiply_transposed(left, right).square().sum().backward()
    found = left.grad, right.grad
    left.grad = right.grad = None
    torch.bmm(left, right.transpose(1, 2)).square().sum().backward()
    torch.testing.assert_close(found, (left.grad, right.grad))


def test_autocast_decides_as_it_does_for_bmm():
    left, right = matrices(2, 3, 8), matrices(2, 5, 8, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = multiply_transposed(left, right)
        expected = torch.bmm(left, right.transpose(1, 2))
    torch.testing.assert_close(actual, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("left", "right", "reason"),
    [
        ((2, 3, 4), (3, 3, 4), "one batch and depth"),
        ((2, 3, 4), (2, 3, 5), "one batch and depth"),
        ((3, 4), (3, 4), "must have 3 dims; got 2 and 2"),
    ],
)
def test_what_does_not_fit_is_refused(left, right, reason):
    with pytest.raises(RuntimeError, match=reason):
        multiply_transposed(torch.zeros(left), torch.zeros(right))


def test_dtypes_must_be_one():
    with pytest.raises(RuntimeError, match="one dtype; got Float and Double"):
        multiply_transposed(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3, dtype=torch.float64))


def test_shapes_are_known_without_data():
    left, right = torch.empty(2, 3, 8, device="meta"), torch.empty(2, 5, 8, device="meta")
    assert multiply_transposed(left, right).shape == (2, 3, 5)
