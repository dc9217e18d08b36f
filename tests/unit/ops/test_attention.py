from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corestream.ops import attention, has_attention_kernel

# Largest difference from float64: of sums in another order, and of weights rounded to bf16.
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float64: 1e-9}
DTYPES = [torch.float32, torch.bfloat16]


def operands(batch, heads, queries, keys, head_size, *, dtype=torch.float32, seed=0):
    """As a model's projections lay them: the heads of a row next to each other."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, rows, heads, head_size, generator=generator).to(dtype).transpose(1, 2)
        for rows in (queries, keys, keys)
    ]


def exact(query, key, value, mask=None):
    scores = query.double() @ key.double().transpose(2, 3) * query.shape[-1] ** -0.5
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        scores = scores + mask.double()
    return scores.softmax(-1).nan_to_num() @ value.double()


def check(tensors, mask=None):
    actual = attention(*tensors, mask)
    error = (actual.double() - exact(*tensors, mask)).abs().max()
    assert actual.dtype == tensors[0].dtype
    assert error < LIMITS[tensors[0].dtype]
    return actual


@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    queries=st.integers(1, 110),
    keys=st.integers(1, 150),
    head_size=st.sampled_from([8, 16, 32, 48, 64, 80, 96, 128]),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["none", "bool", "added", "row"]),
    seed=st.integers(0, 9),
)
def test_any_shape_and_mask(batch, heads, queries, keys, head_size, dtype, kind, seed):
    tensors = operands(batch, heads, queries, keys, head_size, dtype=dtype, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    masks = {
        "none": None,
        "bool": torch.rand(batch, 1, queries, keys, generator=generator) > 0.3,
        "added": torch.randn(batch, heads, queries, keys, generator=generator).to(dtype),
        "row": torch.randn(1, keys, generator=generator).to(dtype),
    }
    check(tensors, masks[kind])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_query_with_no_keys_left_gets_zeros(dtype):
    tensors = operands(1, 2, 5, 7, 16, dtype=dtype)
    mask = torch.ones(1, 1, 5, 7, dtype=torch.bool)
    mask[..., 2, :] = False
    actual = check(tensors, mask)
    assert not actual[:, :, 2].any()
    assert actual[:, :, 1].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_keys_count_for_nothing_whatever_they_hold(dtype):
    query, key, value = operands(1, 1, 3, 40, 32, dtype=dtype)
    mask = torch.arange(40) < 33
    before = attention(query, key, value, mask)
    key[:, :, 33:] = 1e4
    value[:, :, 33:] = -1e4
    assert torch.equal(attention(query, key, value, mask), before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_scores_do_not_overflow(dtype):
    query, key, value = operands(1, 2, 20, 30, 16, dtype=dtype)
    check([query * 60, key * 60, value])


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_memory_layouts(dtype):
    tensors = operands(2, 3, 9, 11, 16, dtype=dtype)
    for change in (
        torch.Tensor.contiguous,
        lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
        lambda t: torch.cat([t, t], dim=3)[..., 1:17],  # rows that begin at an odd element
        lambda t: t[:1].expand(2, -1, -1, -1),
    ):
        check([change(tensor) for tensor in tensors])


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_every_number_of_threads(num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        check(operands(1, 1, 300, 200, 32))
        check(operands(3, 5, 33, 47, 64, dtype=torch.bfloat16))
    finally:
        torch.set_num_threads(before)


def test_threads_may_call_it_at_once():
    tensors = operands(2, 4, 60, 60, 32)
    expected = attention(*tensors)
    barrier = threading.Barrier(4)
    results = []

    def call():
        barrier.wait(timeout=60)
        results.append(all(torch.equal(attention(*tensors), expected) for _ in range(20)))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


@pytest.mark.parametrize(
    ("dtype", "head_size", "num_keys"),
    [(torch.float64, 64, 10), (torch.float32, 24, 10), (torch.float32, 64, 5000)],
)
def test_what_has_no_kernel_goes_to_torch(dtype, head_size, num_keys):
    assert not has_attention_kernel(dtype, head_size=head_size, num_keys=num_keys)
    check(operands(1, 1, 4, num_keys, head_size, dtype=dtype))


def test_the_output_lies_as_that_of_torch():
    tensors = operands(2, 3, 5, 7, 16)
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors)
    assert attention(*tensors).stride() == expected.stride()
    on_meta = attention(*(tensor.to("meta") for tensor in tensors))
    assert (on_meta.shape, on_meta.stride()) == (expected.shape, expected.stride())


def test_shapes_that_do_not_fit():
    query, key, value = operands(1, 2, 5, 7, 16)
    with pytest.raises(RuntimeError):
        attention(query, key[..., :8], value)
    with pytest.raises(RuntimeError):
        attention(query, key, value, torch.zeros(5, 6))


def test_it_is_an_operator_as_torch_wants_them():
    tensors = operands(2, 3, 5, 7, 16)
    for mask in (None, torch.zeros(5, 7)):
        torch.library.opcheck(
            torch.ops.corestream.attention.default,
            (*tensors, mask, 0.25),
            test_utils=("test_schema", "test_faketensor"),
        )


def test_on_a_cpu_without_avx512_torch_computes_it():
    """The switch is the CPU's own word, so another one is asked for by its name."""
    program = """
import torch
from corestream.ops import attention, has_attention_kernel
query, key, value = torch.randn(3, 1, 2, 5, 16)
expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
torch.testing.assert_close(attention(query, key, value), expected)
print(has_attention_kernel(torch.float32, head_size=16, num_keys=5))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"ATEN_CPU_CAPABILITY": "avx2", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
