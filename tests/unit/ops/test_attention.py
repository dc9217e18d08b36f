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


class Wrapped(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, query, key, value):
        return self.function(query, key, value)


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


def strided(tensor):
    """With columns next to each other, which torch's fused kernel does not take."""
    return tensor.transpose(2, 3).contiguous().transpose(2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value_size", [16, 8])
def test_the_output_is_what_the_meta_kernel_foretells(dtype, value_size):
    query, key, value = (strided(t) for t in operands(2, 3, 5, 7, 16, dtype=dtype))
    tensors = query, key, value[..., :value_size]
    actual = attention(*tensors)
    on_meta = attention(*(tensor.to("meta") for tensor in tensors))
    assert (on_meta.shape, on_meta.stride()) == (actual.shape, actual.stride())


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_shapes_that_do_not_fit(device):
    query, key, value = (tensor.to(device) for tensor in operands(2, 2, 5, 7, 16))
    for wrong in (
        (query, key[..., :8], value),
        (query[:1], key, value),
        (query, key, value[:, :1]),
        (query, key, value[:, :, :6]),
        (query[0], key[0], value[0]),
        (query, key.bfloat16(), value),
    ):
        with pytest.raises(RuntimeError, match="query, key and value must have"):
            attention(*wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks_that_do_not_fit(dtype):
    tensors = operands(1, 2, 5, 7, 16, dtype=dtype)
    for mask in (torch.zeros(5, 6), torch.zeros(3, 1, 5, 7), torch.zeros(1, 1, 1, 5, 7)):
        with pytest.raises(RuntimeError):
            attention(*tensors, mask.to(dtype))
    with pytest.raises(RuntimeError, match="attn_mask dtype"):
        attention(*tensors, torch.zeros(5, 7, dtype=torch.long))


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
@pytest.mark.parametrize(
    "mask",
    [
        torch.tensor(0.5),
        torch.rand(7),
        torch.rand(5, 1),
        torch.rand(5, 1).expand(5, 7),
        torch.rand(7, 5).T,
        torch.rand(2, 1, 1, 7).expand(2, 3, 5, 7),
        torch.rand(1, 3, 5, 14)[..., ::2],
    ],
    ids=lambda mask: f"{list(mask.shape)} {mask.stride()}",
)
def test_masks_of_any_layout(dtype, mask):
    tensors = operands(2, 3, 5, 7, 16, dtype=dtype)
    check(tensors, mask.to(dtype))
    check(tensors, mask > 0.4)


def test_a_mask_in_float32_is_added_as_torch_adds_it():
    tensors = operands(1, 2, 5, 7, 16, dtype=torch.bfloat16)
    # In bfloat16 it would be minus infinity, and all weights zero.
    check(tensors, torch.full((5, 7), torch.finfo(torch.float32).min))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("special", [torch.nan, torch.inf])
def test_numbers_that_are_none_are_not_lost(dtype, special):
    tensors = operands(1, 1, 3, 20, 16, dtype=dtype)
    mask = torch.zeros(3, 20, dtype=dtype)
    mask[1, 17] = special
    actual = attention(*tensors, mask)
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors, mask)
    assert torch.equal(actual.isnan(), expected.isnan())
    assert actual[:, :, 1].isnan().all()


def test_a_gradient_is_that_of_torch():
    tensors = [tensor.requires_grad_() for tensor in operands(1, 2, 5, 7, 16)]
    mask = torch.rand(5, 7, requires_grad=True)
    gradients = [
        torch.autograd.grad(run(*tensors, mask).square().sum(), [*tensors, mask])
        for run in (attention, torch.nn.functional.scaled_dot_product_attention)
    ]
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected)


def test_without_grad_mode_parameters_are_like_any_tensor():
    tensors = [tensor.requires_grad_() for tensor in operands(1, 2, 5, 7, 16)]
    expected = attention(*(tensor.detach() for tensor in tensors))
    with torch.no_grad():
        assert torch.equal(attention(*tensors), expected)
    with torch.inference_mode():
        assert torch.equal(attention(*operands(1, 2, 5, 7, 16)), expected)


def test_autocast_casts_as_for_torch():
    query, key, value = operands(1, 2, 5, 7, 16)
    mask = torch.rand(5, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for tensors in ((query, key, value), (query, key.bfloat16(), value.bfloat16())):
            actual = attention(*tensors, mask)
            expected = torch.nn.functional.scaled_dot_product_attention(*tensors, mask)
            assert actual.dtype == expected.dtype == torch.bfloat16
            torch.testing.assert_close(actual, expected, atol=2e-2, rtol=0)


@pytest.mark.parametrize("sizes", [(0, 2, 5, 7), (2, 0, 5, 7), (2, 2, 0, 7), (2, 2, 5, 0)])
def test_nothing_attends_to_nothing(sizes):
    actual = attention(*operands(*sizes, 16))
    assert actual.shape == (*sizes[:3], 16)
    assert not actual.any()


def test_lazy_copies_stay_lazy():
    tensors = operands(2, 4, 60, 60, 32)
    copies = [torch._lazy_clone(tensor) for tensor in tensors]
    assert torch.equal(attention(*copies), attention(*tensors))
    assert all(torch._C._is_cow_tensor(copy) for copy in copies)


def test_it_is_an_operator_as_torch_wants_them():
    tensors = operands(2, 3, 5, 7, 16)
    for mask in (None, torch.zeros(5, 7)):
        torch.library.opcheck(
            torch.ops.corestream.attention.default,
            (*tensors, mask, 0.25),
            test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
        )


def test_torchs_loader_knows_it_once_the_module_is_imported(tmp_path):
    traced = torch.jit.trace(attention, operands(1, 2, 5, 7, 16))
    torch.jit.freeze(torch.jit.script(Wrapped(traced)).eval()).save(tmp_path / "model.pt")
    program = f"""
import torch
import corestream.ops
model = torch.jit.load({str(tmp_path / "model.pt")!r})
query, key, value = torch.randn(3, 1, 2, 5, 16)
expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
torch.testing.assert_close(model(query, key, value), expected)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=100)


@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_kernels_of_other_instruction_sets_and_none_are_right(capability):
    """The switch is torch's own word for the CPU, so another one is asked for by its name."""
    program = """
import torch
from corestream.ops import attention, has_attention_kernel
query, key, value = torch.randn(3, 1, 2, 75, 48)
expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
torch.testing.assert_close(attention(query, key, value), expected)
has_kernel = has_attention_kernel(torch.float32, head_size=48, num_keys=75)
print(has_kernel == (torch.backends.cpu.get_cpu_capability() == "AVX2"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"ATEN_CPU_CAPABILITY": capability, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
