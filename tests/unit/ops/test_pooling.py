from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional

from corestream.ops import adaptive_avg_pool, avg_pool, max_pool

# float64 has no kernel of ours.
DTYPES = [torch.float32, torch.bfloat16, torch.float64]
pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
ANY_POOL = {
    "batch": st.integers(0, 3),
    "channels": st.integers(1, 90),
    "size": st.tuples(st.integers(1, 12), st.integers(1, 12)),
    "kernel": pairs,
    "stride": pairs,
    "halves": st.tuples(st.booleans(), st.booleans()),
    "ceil_mode": st.booleans(),
    "dtype": st.sampled_from(DTYPES),
}


def images(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(*shape, generator=generator).to(dtype)
    return plain.contiguous(memory_format=torch.channels_last)


def padding_of(kernel, halves):
    return tuple(length // 2 * half for length, half in zip(kernel, halves, strict=True))


def actual_and_expected(pool, of_torch):
    """What both give; what torch refuses is refused, and no example of a result."""
    try:
        expected = of_torch()
    except RuntimeError:
        with pytest.raises(RuntimeError, match="pad it"):
            pool()
        assume(False)
    return pool(), expected


@given(**ANY_POOL, dilation=pairs)
def test_any_max_pool(batch, channels, size, kernel, stride, halves, dilation, ceil_mode, dtype):
    x = images(batch, channels, *size, dtype=dtype)
    options = {"stride": stride, "padding": padding_of(kernel, halves), "dilation": dilation}
    actual, expected = actual_and_expected(
        lambda: max_pool(x, kernel, **options, ceil_mode=ceil_mode),
        lambda: functional.max_pool2d(x, kernel, **options, ceil_mode=ceil_mode),
    )
    assert torch.equal(actual, expected)
    assert actual.is_contiguous(memory_format=torch.channels_last)


@given(**ANY_POOL, count_include_pad=st.booleans())
def test_any_avg_pool(
    batch, channels, size, kernel, stride, halves, ceil_mode, count_include_pad, dtype
):
    x = images(batch, channels, *size, dtype=dtype)
    options = {"stride": stride, "padding": padding_of(kernel, halves), "ceil_mode": ceil_mode}
    options["count_include_pad"] = count_include_pad
    actual, expected = actual_and_expected(
        lambda: avg_pool(x, kernel, **options),
        lambda: functional.avg_pool2d(x.double(), kernel, **options),
    )
    limit = 2e-2 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(actual.double(), expected, rtol=limit, atol=limit)


@given(
    batch=ANY_POOL["batch"],
    channels=st.integers(1, 300),
    size=ANY_POOL["size"],
    output_size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    threads=st.integers(1, 3),
    dtype=ANY_POOL["dtype"],
)
def test_any_adaptive_avg_pool(batch, channels, size, output_size, threads, dtype):
    x = images(batch, channels, *size, dtype=dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        actual = adaptive_avg_pool(x, output_size)
    finally:
        torch.set_num_threads(before)
    expected = functional.adaptive_avg_pool2d(x.double(), output_size)
    limit = 2e-2 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(actual.double(), expected, rtol=limit, atol=limit)
    assert actual.dtype == dtype
    assert actual.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("place", [(0, 0), (1, 1), (2, 3)])
def test_a_window_with_nan_has_nan(place):
    x = images(1, 20, 4, 5)
    x[:, 7, place[0], place[1]] = float("nan")
    x[:, 8] = -float("inf")
    expected = functional.max_pool2d(x, 2, 1)
    torch.testing.assert_close(max_pool(x, (2, 2), stride=(1, 1)), expected, equal_nan=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[:, 3:20],
        lambda x: x.contiguous(),
        lambda x: x[:, :, ::2],
        lambda x: x[:, :, :1, :1],
        lambda x: x[:1].expand(3, -1, -1, -1),
    ],
    ids=["slice of channels", "channels first", "rows left out", "one pixel", "one for all"],
)
def test_other_layouts_are_right_too(change):
    x = change(images(2, 24, 7, 7))
    means = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(adaptive_avg_pool(x, (1, 1)), means, rtol=1e-6, atol=1e-6)
    expected = functional.max_pool2d(x, 3, 1, padding=1)
    assert torch.equal(max_pool(x, (3, 3), stride=(1, 1), padding=(1, 1)), expected)


@pytest.mark.parametrize("pool", [max_pool, avg_pool, adaptive_avg_pool])
def test_gradients_are_those_of_torch(pool):
    x = images(1, 4, 6, 6).requires_grad_()
    pool(x, (2, 2)).square().sum().backward()
    twin = x.detach().clone().requires_grad_()
    name = pool.__name__ + "2d"
    getattr(functional, name)(twin, 2).square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kernel_size": (0, 2)}, "must be 1 or more"),
        ({"stride": (1, 0)}, "must be 1 or more"),
        ({"padding": (2, 0)}, "at most half of the kernel"),
        ({"kernel_size": (9, 1)}, "as large as the kernel"),
        ({"stride": (1,)}, "must have 2 sizes"),
    ],
)
@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_what_does_not_fit_is_refused(pool, options, reason):
    given_options = {"kernel_size": (2, 2)} | options
    with pytest.raises(RuntimeError, match=reason):
        pool(images(1, 4, 6, 6), given_options.pop("kernel_size"), **given_options)


@pytest.mark.parametrize("output_size", [(1,), (0, 1), (1, -1), (1, 1, 1)])
def test_an_output_must_have_a_size(output_size):
    with pytest.raises(RuntimeError, match="must be 2 sizes of 1 or more"):
        adaptive_avg_pool(images(1, 4, 6, 6), output_size)


def test_only_images_are_taken():
    with pytest.raises(RuntimeError, match="must have 4 dims; got 3"):
        adaptive_avg_pool(torch.zeros(4, 6, 6), (1, 1))
    with pytest.raises(RuntimeError, match="must have 4 dims; got 3"):
        max_pool(torch.zeros(4, 6, 6), (2, 2))


@pytest.mark.parametrize("size", [(1, 4, 0, 5), (1, 4, 5, 0), (1, 0, 5, 5)])
@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_only_the_batch_may_be_empty(pool, size):
    with pytest.raises(RuntimeError, match="only the batch may be empty"):
        pool(torch.zeros(size), (2, 2), padding=(1, 1))
    with pytest.raises(RuntimeError, match="only the batch may be empty"):
        adaptive_avg_pool(torch.zeros(size), (1, 1))


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_shapes_are_known_without_data(pool):
    x = torch.empty(2, 5, 9, 8, device="meta")
    options = {"stride": (2, 2), "padding": (1, 1), "ceil_mode": True}
    expected = pool(images(2, 5, 9, 8), (3, 3), **options)
    actual = pool(x, (3, 3), **options)
    assert (actual.shape, actual.stride()) == (expected.shape, expected.stride())
