from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corestream.ops import ConvolutionShape, convolution, linear, pack_linear

DTYPES = [torch.float32, torch.bfloat16]
# Of the largest result: sums in another order, and what rounding to bf16 costs.
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


def operands(shape, out_features, *, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator).to(dtype)
    weight = torch.randn(out_features, shape[-1], generator=generator).to(dtype)
    return x, weight, torch.randn(out_features, generator=generator)


def exact(x, weight, bias=None, residual=None):
    result = x.double() @ weight.double().T
    if bias is not None:
        result = result + bias.double()
    return result if residual is None else result + residual.double()


def check(actual, expected, dtype):
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    if expected.numel():
        scale = max(1.0, float(expected.abs().max()))
        assert float((actual.double() - expected).abs().max()) < LIMITS[dtype] * scale


@given(
    rows=st.integers(0, 60),
    in_features=st.integers(1, 70),
    out_features=st.integers(1, 200),
    dtype=st.sampled_from(DTYPES),
    has_bias=st.booleans(),
    has_residual=st.booleans(),
)
def test_any_size_is_a_product(rows, in_features, out_features, dtype, has_bias, has_residual):
    x, weight, bias = operands((rows, in_features), out_features, dtype=dtype)
    bias = bias if has_bias else None
    residual = torch.randn(rows, out_features).to(dtype) if has_residual else None
    packed = pack_linear(weight)
    actual = linear(x, packed, out_features=out_features, bias=bias, residual=residual)
    check(actual, exact(x, weight, bias, residual), dtype)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(300, 130), (2, 130), (5, 60, 130)])
def test_a_team_divides_rows_or_columns(shape, dtype, num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        x, weight, bias = operands(shape, 500, dtype=dtype)
        actual = linear(x, pack_linear(weight), out_features=500, bias=bias)
        check(actual, exact(x, weight, bias), dtype)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_and_limits_come_after_the_sum(dtype):
    x, weight, bias = operands((40, 30), 70, dtype=dtype)
    expected = torch.nn.functional.gelu(exact(x, weight, bias))
    packed = pack_linear(weight)
    actual = linear(x, packed, out_features=70, bias=bias, gelu=True)
    check(actual, expected, dtype)
    actual = linear(x, packed, out_features=70, bias=bias, low=-0.5, high=1.5)
    check(actual, exact(x, weight, bias).clamp(-0.5, 1.5), dtype)


def test_gelu_is_exact_where_it_is_small_and_keeps_what_is_no_number():
    values = torch.tensor([-30.0, -9.0, -5.0, -1e-3, 0.0, 1e-3, 5.0, 30.0, torch.nan, torch.inf])
    actual = linear(values[:, None], pack_linear(torch.ones(1, 1)), out_features=1, gelu=True)
    expected = torch.nn.functional.gelu(values.double())
    torch.testing.assert_close(
        actual[:, 0].double(), expected, rtol=1e-6, atol=1e-7, equal_nan=True
    )


def test_limits_keep_what_is_no_number():
    x = torch.tensor([[torch.nan], [torch.inf], [-torch.inf]])
    actual = linear(x, pack_linear(torch.ones(1, 1)), out_features=1, low=0.0, high=6.0)
    torch.testing.assert_close(actual, x.clamp(0, 6), equal_nan=True)


def test_rows_need_not_be_adjacent():
    x, weight, _ = operands((20, 60), 33)
    for view in (x[::2, :40], x.T[:, :20], x[:, None, 5:25].expand(20, 3, 20)):
        plain = weight[:, : view.shape[-1]]
        actual = linear(view, pack_linear(plain), out_features=33)
        check(actual, exact(view, plain), torch.float32)


def test_gradients_are_torchs():
    x, weight, bias = operands((4, 6), 5)
    x.requires_grad_()
    linear(x, pack_linear(weight), out_features=5, bias=bias, low=0.0).sum().backward()
    actual, x.grad = x.grad, None
    torch.nn.functional.linear(x, weight, bias).clamp(min=0).sum().backward()
    torch.testing.assert_close(actual, x.grad)


def test_the_operator_keeps_its_promises_to_the_compiler():
    x, weight, bias = operands((4, 6), 5)
    args = x, pack_linear(weight), bias, None, 5, True, 0.0, None
    torch.library.opcheck(torch.ops.corestream.linear.default, args)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"out_features": 40}, "packed must be what pack_convolution"),
        ({"bias": torch.zeros(4)}, "bias must be 5 adjacent numbers"),
        ({"bias": torch.zeros(5).bfloat16()}, "bias must be 5 adjacent numbers"),
        ({"residual": torch.zeros(4, 4)}, "residual must be as the output"),
        ({"input": torch.zeros(4, 9).bfloat16()}, "packed must be what pack_convolution"),
        ({"input": torch.zeros(4, 6).double()}, "packed must be what pack_convolution"),
    ],
)
def test_what_does_not_fit_is_refused(change, reason):
    x, weight, bias = operands((4, 6), 5)
    options = {"out_features": 5, "bias": bias} | change
    with pytest.raises(RuntimeError, match=reason):
        linear(options.pop("input", x), pack_linear(weight), **options)


WITH_OTHER_KERNELS = """
import torch
from corestream.ops import *
is_avx2 = torch.backends.cpu.get_cpu_capability() == "AVX2"
assert has_kernels(torch.float32) == is_avx2 and not has_kernels(torch.bfloat16)
torch.manual_seed(0)
for dtype in (torch.float32, torch.bfloat16):
    x, weight, bias = torch.randn(7, 30).to(dtype), torch.randn(70, 30).to(dtype), torch.randn(70)
    residual = torch.randn(7, 70).to(dtype)
    packed = pack_linear(weight)
    actual = linear(x, packed, out_features=70, bias=bias, residual=residual, gelu=True, low=0.0)
    expected = x.double() @ weight.double().T + bias.double() + residual.double()
    expected = torch.nn.functional.gelu(expected).clamp(min=0)
    limit = 1e-4 if dtype == torch.float32 else 0.3
    assert (actual.double() - expected).abs().max() < limit
    for groups, channels in ((1, 3), (1, 20), (20, 20)):
        image = torch.randn(2, channels, 9, 9).to(dtype)
        kernel = torch.randn(20, channels // groups, 3, 3).to(dtype)
        shape = ConvolutionShape(tuple(kernel.shape), padding=(1, 1), groups=groups)
        actual = convolution(image, pack_convolution(kernel, groups), shape=shape, high=1.0)
        expected = torch.nn.functional.conv2d(image, kernel, padding=1, groups=groups)
        torch.testing.assert_close(actual, expected.clamp(max=1.0), rtol=1e-3, atol=1e-3)
image, kernel = torch.randn(2, 20, 9, 9), torch.randn(20, 20, 3, 3)
shape = ConvolutionShape(tuple(kernel.shape))
assert has_winograd_kernel(torch.float32, shape) == is_avx2
for tile in (4, 6):
    actual = convolution(image, pack_winograd(kernel, tile=tile), shape=shape)
    expected = torch.nn.functional.conv2d(image, kernel)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)
"""


def run_with_capability(capability, *program):
    environ = {"ATEN_CPU_CAPABILITY": capability, "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-W", "ignore", "-c", *program]
    subprocess.run(command, check=True, env=environ, timeout=100)


@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_kernels_of_other_instruction_sets_and_torchs_are_right(capability):
    run_with_capability(capability, WITH_OTHER_KERNELS)


PACK = """
import sys
import torch
from corestream.ops import pack_convolution, pack_linear, pack_winograd
weight, kernel = torch.load(sys.argv[1])
kernels = pack_convolution(kernel), *(pack_winograd(kernel, tile=tile) for tile in (4, 6))
torch.save((pack_linear(weight), kernels), sys.argv[2])
"""


@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_weights_packed_for_other_kernels_are_understood(capability, tmp_path):
    """A model may be saved on one machine and loaded on another."""
    x, image = torch.randn(3, 30), torch.randn(2, 20, 5, 5)
    weight, kernel = torch.randn(150, 30), torch.randn(150, 20, 3, 3)
    torch.save((weight, kernel), tmp_path / "plain.pt")
    files = str(tmp_path / "plain.pt"), str(tmp_path / "packed.pt")
    run_with_capability(capability, PACK, *files)
    packed_weight, packed_kernels = torch.load(files[1])
    torch.testing.assert_close(
        linear(x, packed_weight, out_features=150), x @ weight.T, rtol=1e-4, atol=1e-4
    )
    for packed_kernel in packed_kernels:
        torch.testing.assert_close(
            convolution(image, packed_kernel, shape=ConvolutionShape((150, 20, 3, 3))),
            torch.nn.functional.conv2d(image, kernel),
            rtol=1e-4,
            atol=1e-4,
        )


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_a_weight_without_elements_is_refused(size):
    with pytest.raises(RuntimeError, match="weight must not be empty"):
        pack_linear(torch.zeros(size))


def test_a_vector_is_no_weight():
    with pytest.raises(ValueError, match="weight must have 2 dims; got 1"):
        pack_linear(torch.zeros(5))


def test_under_autocast_the_weight_decides():
    x, weight, bias = operands((4, 6), 5)
    packed = pack_linear(weight)
    expected = linear(x, packed, out_features=5, bias=bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = linear(x.bfloat16(), packed, out_features=5, bias=bias)
    torch.testing.assert_close(actual, expected, rtol=0.02, atol=0.05)
