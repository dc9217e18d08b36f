"""Our operators run on the calling thread's team, whatever size it really gets."""

from __future__ import annotations

import subprocess
import sys

import pytest

from corestream import CPUPool

SETUP = """
import os, sys
import torch
from corestream.ops import *

def ones(*shape):
    # Filled by one thread.
    return torch.empty(*shape, memory_format=torch.channels_last).apply_(lambda _: 1.0)

x = ones(2, 32, 30, 40)
weight = torch.ones(32, 32, 1, 1)
calls = {
    "attention": lambda: attention(*[torch.ones(4, 64, 4, 16).transpose(1, 2)] * 3),
    "linear": lambda: linear(torch.ones(512, 64), pack_linear(torch.ones(64, 64)), out_features=64),
    "convolution": lambda: convolution(
        x, pack_convolution(weight), shape=ConvolutionShape((32, 32, 1, 1))
    ),
    "depthwise": lambda: convolution(
        x,
        pack_convolution(torch.ones(32, 1, 3, 3), 32),
        shape=ConvolutionShape((32, 1, 3, 3), padding=(1, 1), groups=32),
    ),
    # The output gate is open and nothing is forgotten: a unit adds what one of another member gave
    # in the step before.
    "lstm_layer": lambda: lstm_layer(
        torch.ones(3, 64, 64),
        LSTMWeights.of(
            torch.zeros(256, 64),
            torch.cat([torch.zeros(128, 64), torch.eye(64).roll(16, 0), torch.zeros(64, 64)]),
            bias_ih=torch.tensor([99.0, 99.0, 0.0, 99.0]).repeat_interleave(64),
        ),
        h0=torch.full((64, 64), 0.5),
        c0=torch.zeros(64, 64),
    )[0][2],
    "max_pool": lambda: max_pool(x, (3, 3), stride=(1, 1), padding=(1, 1)),
    "avg_pool": lambda: avg_pool(x, (2, 2)),
    "adaptive_avg_pool": lambda: adaptive_avg_pool(ones(1, 256, 20, 30), (1, 1)),
    "interleave_channels": lambda: interleave_channels([x, x]),
    "joined_embeddings": lambda: joined_embeddings(
        [EmbeddingPart(index=torch.arange(4096), table=torch.ones(4096, 64))] * 2
    ),
    "multiply_transposed": lambda: multiply_transposed(*[torch.ones(64, 27, 64)] * 2),
}
expected = {
    "attention": 1,
    "linear": 64,
    "convolution": 32,
    "max_pool": 1,
    "avg_pool": 1,
    "adaptive_avg_pool": 1,
    "interleave_channels": 1,
    "joined_embeddings": 1,
    "multiply_transposed": 64,
}
call = calls[sys.argv[1]]
"""
TEAM = (
    SETUP
    + """
torch.set_num_threads(2)
before = len(os.listdir("/proc/self/task"))
call()
print(len(os.listdir("/proc/self/task")) - before)
"""
)
LIMITED = (
    SETUP
    + """
torch.set_num_threads(4)
result = call()
wanted = expected.get(sys.argv[1])
if sys.argv[1] == "lstm_layer":
    state = torch.zeros(())
    wanted = torch.tensor(0.5)
    for _ in range(3):
        state = state + wanted.tanh()
        wanted = state.tanh()
    result = (result - wanted).abs() < 1e-6
    wanted = True
if wanted is None:
    inner = result[:, :, 1:-1, 1:-1]
    result, wanted = inner, 9
assert bool((result == wanted).all()), result
"""
)
OPERATORS = (
    "attention",
    "linear",
    "convolution",
    "depthwise",
    "lstm_layer",
    "max_pool",
    "avg_pool",
    "adaptive_avg_pool",
    "interleave_channels",
    "joined_embeddings",
    "multiply_transposed",
)


def run(program, operator, **environ):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, operator],
        env={"PATH": "/usr/bin:/bin"} | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(len(CPUPool()) < 2, reason="a team needs a second core")
@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_wakes_a_team(operator):
    """libgomp makes a team's threads in its first region."""
    assert run(TEAM, operator).strip() == "1"


@pytest.mark.parametrize("limit", ["1", "3"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_team_that_is_smaller_than_asked_for_does_all_the_work(operator, limit):
    run(LIMITED, operator, OMP_THREAD_LIMIT=limit)


KEPT = (
    SETUP
    + """
def threads():
    return set(os.listdir("/proc/self/task"))

torch.set_num_threads(4)
call()
before = threads()
for rows in (256, 60, 200, 110, 256):
    # Products for 4, 1, 3, 2 and 4 members.
    linear(torch.ones(rows, 64), pack_linear(torch.ones(64, 64)), out_features=64)
    assert threads() == before, rows
call()
assert threads() == before
"""
)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_team_keeps_its_threads_whatever_an_operator_needs(operator):
    """Threads that libgomp makes anew are not where those of a stream belong."""
    run(KEPT, operator)
