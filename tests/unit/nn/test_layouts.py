"""Layouts are right for any number of threads, and settle so that no call reorders the weight."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

from corestream.nn import PackedConv2d, PackedLinear
from tests.api.source_tree import REPO
from tests.unit.nn.native import assert_close, assert_same_bits, folded_pair, native, trained_norm


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("packing", [1, 3])
def test_results_hold_for_any_number_of_threads(threads, packing):
    conv, linear = nn.Conv2d(32, 48, 3, padding=1), nn.Linear(96, 64)
    x, rows = torch.randn(2, 32, 14, 14), torch.randn(9, 96)
    threads(packing)
    packed = PackedConv2d.from_module(conv, input_size=x.shape)
    packed_linear = PackedLinear.from_module(linear)
    for count in (1, 2, 3, 8):
        threads(count)
        with torch.no_grad():
            assert_close(packed(x), native(conv, x))
            assert_close(packed_linear(rows), native(linear, rows))
    assert_same_bits(packed.state_dict()["weight"], conv.weight)


def test_no_call_reorders_the_weight_once_sizes_and_threads_last():
    environment = os.environ | {"ONEDNN_VERBOSE": "1", "PYTHONPATH": str(REPO)}
    command = [sys.executable, "tests/unit/nn/layout_program.py"]
    done = subprocess.run(
        command, env=environment, cwd=REPO, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    calls, current = {}, None
    for line in done.stdout.splitlines():
        if line.startswith("## "):
            current = None if line == "## end" else line[3:]
            calls.setdefault(current, [])
        elif ",exec," in line and current is not None:
            calls[current].append(line.split(",")[5])
    assert len([name for name in calls if name]) == 4 * 3 + 4 * 2
    for name, primitives in calls.items():
        if name is not None:
            assert len(primitives) == 1, (name, primitives)
            assert primitives[0] in {"convolution", "inner_product", "matmul"}


def test_a_layout_changes_with_the_size_that_lasts_and_stays_one():
    conv = nn.Conv2d(64, 64, 3, padding=1)
    packed = PackedConv2d.from_module(conv, input_size=(1, 64, 56, 56))
    nbytes = packed.packed_nbytes
    for size in (28, 56, 28):
        x = torch.randn(1, 64, size, size)
        for _ in range(10):
            with torch.no_grad():
                assert_close(packed(x), native(conv, x))
        assert (x.shape, torch.get_num_threads()) in packed._store.form.keys
        assert packed.packed_nbytes <= 1.5 * nbytes
        assert_same_bits(packed.state_dict()["weight"], conv.weight)


def test_values_loaded_while_other_threads_run_are_old_or_new_never_mixed():
    conv, norm = nn.Conv2d(8, 16, 3).requires_grad_(False), trained_norm(16)
    model = folded_pair(conv, norm)
    x, weights = torch.randn(2, 8, 9, 9), [torch.randn(16, 8, 3, 3) for _ in range(2)]
    weights.append(conv.weight)
    expected = [native(lambda w=w: norm(nn.functional.conv2d(x, w, conv.bias))) for w in weights]
    is_over, began, wrong = threading.Event(), threading.Barrier(4), []

    def run():
        began.wait()
        while not is_over.is_set():
            with torch.no_grad():
                y = model(x)
            if not any(torch.allclose(y, allowed, atol=1e-3) for allowed in expected):
                wrong.append(y)

    runners = [threading.Thread(target=run) for _ in range(3)]
    for runner in runners:
        runner.start()
    began.wait()
    for number in range(60):
        model[0].load_state_dict({"weight": weights[number % 2]}, strict=False)
    is_over.set()
    for runner in runners:
        runner.join()
    assert wrong == []
