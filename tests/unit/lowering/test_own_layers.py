from __future__ import annotations

import pytest
import torch
from torch import nn

import corestream
from corestream.lowering.own_layers import (
    count_reads,
    may_have_own_layers,
)
from corestream.lowering.own_linear import LinearShape
from corestream.lowering.timed_for import TimedFor
from corestream.measure import ModelInputs
from corestream.ops import has_kernels
from tests.unit.lowering.traced_layers import (
    CHAIN,
    JOINED,
    OURS,
    Model,
    images,
    needs_kernel,
    traced,
    traced_script,
)

POOLED, MEAN = "corestream::max_pool", "corestream::adaptive_avg_pool"


def residual_block(m, x):
    out = torch.relu(m.norm(m.first(x)))
    out = m.other_norm(m.second(out))
    out += x
    return nn.functional.relu(out, inplace=True)


def inverted_residual(m, x):
    out = nn.functional.relu6(m.norm(m.first(x)))
    out = nn.functional.hardtanh(m.depthwise(out), 0.0, 6.0, inplace=True)
    return x + m.second(out)


def clamps(m, x):
    return m.second(m.first(x).clamp(min=-0.1).clamp(max=0.2)).clamp_(-1, 1)


def two_convolutions_are_added(m, x):
    return torch.relu(m.first(x) + m.second(x))


@needs_kernel
@pytest.mark.parametrize(
    ("function", "calls"),
    [
        (residual_block, [OURS, OURS]),
        (inverted_residual, [CHAIN, OURS]),
        (clamps, [OURS, OURS]),
        (two_convolutions_are_added, [OURS, OURS]),
    ],
)
def test_what_follows_a_convolution_is_a_part_of_it(function, calls):
    model, x = Model(function), images()
    expected = model(x.clone())
    kinds, actual = traced(model, x)
    assert kinds == calls
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def fire(m, x):
    squeezed = torch.relu(m.first(x))
    return torch.cat([torch.relu(m.second(squeezed)), m.depthwise(squeezed).clamp(max=1)], 1)


def branches(m, x):
    pooled = nn.functional.max_pool2d(x, 3, stride=1, padding=1)
    return torch.cat((m.norm(m.second(x)), pooled, m.first(pooled)), dim=1)


def pools(m, x):
    out = nn.MaxPool2d(3, 2, ceil_mode=True)(m.first(x))
    return nn.functional.avg_pool2d(out, (2, 1), count_include_pad=False)


def all_of_an_image(m, x):
    return torch.cat([x, torch.concat([x, m.first(x)], 1)], -3)


@needs_kernel
@pytest.mark.parametrize(
    ("function", "calls"),
    [
        (fire, [OURS, JOINED]),
        (branches, [POOLED, JOINED]),
        (pools, [OURS, POOLED, "corestream::avg_pool"]),
        (all_of_an_image, [JOINED, "aten::cat"]),
    ],
)
def test_convolutions_write_into_what_joins_them_and_pools_are_ours(function, calls):
    model, x = Model(function), images()
    expected = model(x)
    kinds, actual = traced(model, x)
    assert kinds == calls
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@needs_kernel
@pytest.mark.parametrize(
    "mean",
    [
        nn.AdaptiveAvgPool2d(1),
        lambda out: nn.functional.adaptive_avg_pool2d(out, output_size=(3, 1)),
        lambda out: out.mean([-1, 2], keepdim=True),
        lambda out: torch.mean(out, dim=(2, 3)),
    ],
)
def test_means_of_images_are_ours(mean):
    model, x = Model(lambda m, x: mean(m.first(x))), images()
    kinds, script = traced_script(model, x)
    assert kinds[:2] == [OURS, MEAN]
    assert not {"aten::mean", "aten::adaptive_avg_pool2d"} & set(kinds)
    for other in (x, torch.randn(3, 8, 12, 6)):
        torch.testing.assert_close(script(other), model(other), rtol=1e-4, atol=1e-5)


def another_reads_a_part(m, x):
    out = torch.relu(m.first(x))
    return torch.cat([out, m.second(out)], 1) + torch.cat([out, out], 1)


def along_another_dim(m, x):
    return torch.cat([m.first(x), m.second(x)], 2)


def into_an_output(m, x):
    return torch.cat([m.first(x), m.second(x)], 1, out=torch.empty(0))


def of_two_dtypes(m, x):
    return torch.cat([m.first(x), x.double()], 1)


def shuffled(m, x):
    joined = torch.cat([x, m.first(x)], 1)
    return joined.view(2, 2, 8, 9, 9).transpose(1, 2).reshape(2, 16, 9, 9)


def indices_are_wanted(m, x):
    out, indices = nn.functional.max_pool2d(m.first(x), 2, return_indices=True)
    return out + indices


def of_all_that_is_left(m, x):
    return nn.functional.avg_pool2d(m.first(x), x.shape[2:])


def of_another_dtype(m, x):
    return m.first(x).mean((2, 3), dtype=torch.float64)


def of_other_dims(m, x):
    out = m.first(x)
    return out.mean((1, 2)).sum() + out.mean(3).sum() + out.mean() + out.mean((1, 2, 3)).sum()


def of_a_part_of_the_size(m, x):
    return nn.AdaptiveAvgPool2d((None, 1))(m.first(x))


def of_sizes_by_name(m, x):
    return torch.nn.functional.avg_pool2d(m.first(x), kernel_size=x.shape[-1], stride=x.size(2))


def divided_by_another_number(m, x):
    return nn.functional.avg_pool2d(m.first(x), 2, divisor_override=3)


@needs_kernel
@pytest.mark.parametrize(
    "function",
    [
        along_another_dim,
        into_an_output,
        of_two_dtypes,
        shuffled,
        indices_are_wanted,
        of_all_that_is_left,
        of_another_dtype,
        of_other_dims,
        of_a_part_of_the_size,
        of_sizes_by_name,
        divided_by_another_number,
    ],
)
def test_other_joins_and_pools_stay_as_they_are(function):
    model, x = Model(function), images()
    kinds, script = traced_script(model, x)
    assert not {JOINED, POOLED, MEAN, "corestream::avg_pool"} & set(kinds)
    torch.testing.assert_close(script(x), model(x), rtol=1e-4, atol=1e-5)


@needs_kernel
@pytest.mark.parametrize("function", [fire, branches, pools, of_all_that_is_left])
def test_images_of_another_size_are_right(function):
    model = Model(function)
    _, script = traced_script(model, images())
    x = torch.randn(3, 8, 12, 12).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(script(x), model(x), rtol=1e-4, atol=1e-5)


@needs_kernel
def test_what_another_reads_is_an_image_in_a_join():
    model, x = Model(another_reads_a_part), images()
    expected = model(x)
    kinds, actual = traced(model, x)
    assert kinds == [OURS, JOINED, "aten::cat", "aten::add"]
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def is_read_twice(m, x):
    out = m.first(x)
    return torch.relu(out) * out


def is_an_output_too(m, x):
    out = m.norm(m.first(x))
    return torch.cat([torch.relu(out), out])


def is_viewed(m, x):
    out = m.first(x)
    half = out[:, :4]
    out = torch.relu_(out)
    return out[:, :4] + half


def sum_of_another_shape(m, x):
    return m.first(x) + x[:, :1]


def scaled_sum(m, x):
    return torch.add(m.first(x), x, alpha=2)


def limits_are_tensors(m, x):
    return torch.clamp(m.first(x), min=x.mean())


def sum_after_limits(m, x):
    return torch.relu(m.first(x)) + x


@needs_kernel
@pytest.mark.parametrize(
    "function",
    [
        is_read_twice,
        is_an_output_too,
        is_viewed,
        sum_of_another_shape,
        scaled_sum,
        limits_are_tensors,
        sum_after_limits,
    ],
)
def test_what_does_not_belong_to_one_stays_right(function):
    model, x = Model(function), images()
    expected = model(x.clone())
    kinds, actual = traced(model, x)
    assert kinds.count(OURS) == 1
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@needs_kernel
@pytest.mark.parametrize(("is_faster", "kinds"), [(True, ["corestream::linear"]), (False, [])])
def test_a_linear_layer_is_ours_where_that_is_faster(monkeypatch, is_faster, kinds):
    monkeypatch.setattr(LinearShape, "our_kernel_is_faster", lambda *_, **__: is_faster)
    model = nn.Sequential(nn.Linear(9, 20), nn.ReLU(inplace=True)).eval().requires_grad_(False)
    x = torch.randn(2, 9)
    found, actual = traced(model, x)
    assert [kind for kind in found if kind.startswith("corestream")] == kinds
    assert "aten::relu_" not in found or not is_faster
    torch.testing.assert_close(actual, model(x), rtol=1e-4, atol=1e-5)


@needs_kernel
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_training_norms_computed_weights_and_autocast_are_torchs():
    model = Model(lambda m, x: m.norm(m.first(x)))
    model.norm.train()
    kinds, _ = traced(model, images())
    assert "aten::batch_norm" in kinds
    scaled = Model(lambda m, x: nn.functional.conv2d(x, m.first.weight * 2))
    assert not count_reads(scaled, ModelInputs((images(),), {}), timed_for=TimedFor(1))

    def under_autocast(m, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return m.first(x)

    assert not count_reads(
        Model(under_autocast), ModelInputs((images(),), {}), timed_for=TimedFor(1)
    )


def forgets_the_result(m, x):
    out = m.first(x)
    torch.relu_(out)
    return out * 2


def returns_the_old_name(m, x):
    out = m.first(x)
    out.clamp_(-20, 20)
    return out


@needs_kernel
@pytest.mark.parametrize("function", [forgets_the_result, returns_the_old_name])
def test_a_tensor_that_is_read_under_its_old_name_leaves_the_plain_trace(function):
    model, x = Model(function), images()
    lowered = corestream.lower(model, x, backend="torchscript", num_streams=1)
    plain, ours = lowered.report.candidates
    assert plain.is_chosen
    assert "under its old name" in ours.reason
    torch.testing.assert_close(lowered(x * 1000), model(x * 1000), rtol=1e-4, atol=1e-3)


def sum_into_a_view(m, x):
    whole = torch.zeros_like(x).repeat(1, 2, 1, 1)
    half = whole[:, :8]
    half += m.first(x)
    return whole


def limits_that_cross(m, x):
    return m.first(x).clamp(3, 1)


@needs_kernel
@pytest.mark.parametrize("function", [sum_into_a_view, limits_that_cross])
def test_writes_to_views_and_crossed_limits_are_right(function):
    model, x = Model(function), images()
    _, actual = traced(model, x)
    torch.testing.assert_close(actual, model(x), rtol=1e-4, atol=1e-5)


@needs_kernel
def test_a_lowered_model_runs_under_autocast():
    model = nn.Sequential(nn.Conv2d(16, 16, 3, groups=4), nn.Conv2d(16, 16, 3)).eval()
    x = images(channels=16)
    lowered = corestream.lower(model, x, backend="torchscript", num_streams=1)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(lowered(x).float(), model(x).float(), rtol=0.05, atol=0.05)


def test_models_that_cannot_gain_are_seen_beforehand():
    assert not may_have_own_layers(nn.Sequential(nn.Linear(4, 4), nn.Conv1d(4, 4, 1)))
    assert not may_have_own_layers(nn.Conv2d(8, 8, 3, padding="same"))
    assert not may_have_own_layers(nn.Conv2d(8, 8, 3).double()) or has_kernels(torch.float32)


@needs_kernel
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_lowered_model_is_right_for_any_batch_and_can_be_saved(dtype, tmp_path):
    model = Model(inverted_residual)
    lowered = corestream.lower(model, images(), backend="torchscript", dtype=dtype)
    variants = {candidate.variant: candidate for candidate in lowered.report.candidates}
    assert set(variants) == {"", "own layers"}
    assert variants[""].is_built
    if has_kernels(dtype or torch.float32):
        assert variants["own layers"].is_built
        assert not variants["own layers"].reason
    else:
        assert "a layer that corestream has a kernel for" in variants["own layers"].reason
    assert "torchscript, own layers" in str(lowered.report).replace(" bfloat16", "")
    lowered.save(tmp_path / "model.pt2")
    loaded = corestream.load(tmp_path / "model.pt2")
    limits = {"rtol": 1e-4, "atol": 1e-5} if dtype is None else {"rtol": 0.05, "atol": 0.1}
    for batch in (1, 2, 5):
        x = images(batch)
        expected = model(x.clone())
        torch.testing.assert_close(lowered(x), expected, **limits)
        torch.testing.assert_close(loaded(x), expected, **limits)
