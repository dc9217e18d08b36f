"""The fp32 math mode does what it says or is refused, on any CPU; torch's settings come back."""

from __future__ import annotations

import threading

import pytest
import torch

from corestream.onednn import fp32_math_mode, get_fp32_math_mode

BF16_ROUNDING = 2.0**-8  # half a unit in the last of 8 bits, of two factors


@pytest.fixture(autouse=True)
def settings_unchanged():
    before = get_fp32_math_mode()
    yield
    assert get_fp32_math_mode() == before


def enter(mode: str) -> str:
    """Whether the mode was taken, and torch then has it."""
    try:
        with fp32_math_mode(mode):
            assert get_fp32_math_mode() == {"conv": mode, "matmul": mode, "rnn": mode}
            return "taken"
    except ValueError as error:
        return "refused" if "this CPU can compute in" in str(error) else str(error)


def test_a_mode_is_taken_where_torch_has_instructions_for_it_and_refused_elsewhere():
    can_bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    can_tf32 = torch.cpu._is_amx_fp16_supported()
    assert enter("ieee") == "taken"
    assert enter("bf16") == ("taken" if can_bf16 else "refused")
    assert enter("tf32") == ("taken" if can_tf32 else "refused")


@pytest.mark.parametrize("mode", ["ieee", "bf16"])
def test_results_keep_to_the_precision_of_the_mode(mode):
    conv, images = torch.nn.Conv2d(32, 32, 3), torch.rand(16, 32, 10, 10)
    with torch.no_grad():
        exact = conv.double()(images.double())  # oneDNN has no fp64
    conv.float()
    try:
        with torch.no_grad(), fp32_math_mode(mode):
            result = conv(images)
    except ValueError:
        assert mode == "bf16"
        return
    scale = exact.abs().max().item()
    bound = 1e-5 if mode == "ieee" else 32 * BF16_ROUNDING
    assert result.dtype == torch.float32
    assert (result.double() - exact).abs().max().item() <= bound * scale


def test_what_users_set_before_comes_back():
    conv = torch.backends.mkldnn.conv
    try:
        conv.fp32_precision = "tf32"
        with fp32_math_mode("ieee"), fp32_math_mode("ieee"):
            assert conv.fp32_precision == "ieee"
        assert get_fp32_math_mode() == {"conv": "tf32", "matmul": "none", "rnn": "none"}
    finally:
        conv.fp32_precision = "none"


def test_a_kind_that_followed_the_setting_above_still_does():
    with fp32_math_mode("ieee"):
        pass
    set_all = torch._C._set_fp32_precision_setter
    try:
        set_all("mkldnn", "all", "ieee")
        assert set(get_fp32_math_mode().values()) == {"ieee"}
        with fp32_math_mode("ieee"):
            pass
        set_all("mkldnn", "all", "bf16")
        assert set(get_fp32_math_mode().values()) == {"bf16"}
    finally:
        set_all("mkldnn", "all", "none")


def test_scopes_of_threads_may_overlap():
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with fp32_math_mode("ieee"):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    with fp32_math_mode("ieee"):
        leave.set()
        thread.join()
        assert get_fp32_math_mode()["conv"] == "ieee"


@pytest.mark.parametrize("mode", ["FP32", "fp16", "none", None])
def test_other_modes_are_refused(mode):
    message = "mode must be 'ieee', 'bf16' or 'tf32'; got"
    with pytest.raises(ValueError, match=message), fp32_math_mode(mode):
        pass
