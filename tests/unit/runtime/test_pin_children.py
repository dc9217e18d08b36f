"""`pin` and the processes that are forked inside and after it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import corestream
from corestream import CPUPool, TaskExecutor, pin
from tests.unit.runtime.proc import cpus_of, in_forked_child, team_of_this_thread

# Python 3.12 and later warn of a fork beside threads, which is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

LARGE = 1 << 20


class Masks(torch.utils.data.Dataset):
    """Item i is the mask of whoever reads it."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return cpus_of(os.getpid())


def worker_masks() -> list[list[int]]:
    loader = torch.utils.data.DataLoader(
        Masks(),
        batch_size=None,
        num_workers=1,
        multiprocessing_context="fork",
        collate_fn=lambda item: item,
    )
    return list(loader)


def mask_of_main() -> list[int]:
    return cpus_of(os.getpid())


@pytest.fixture
def before() -> list[int]:
    # A fork with an executor alive has handlers registered; the subprocess test has none.
    with TaskExecutor(CPUPool()):
        pass
    return mask_of_main()


def test_child_forked_inside_gets_the_original_mask(before):
    first = CPUPool(before[:1])
    with pin(first):
        assert in_forked_child(mask_of_main) == repr(before)
        with pin(CPUPool(before[-1:])):
            assert in_forked_child(mask_of_main) == repr(before)
        assert mask_of_main() == before[:1]
    assert in_forked_child(mask_of_main) == repr(before)


def test_parent_stays_pinned_over_a_fork(before):
    if len(before) < 2:
        pytest.skip("needs two CPUs")
    with pin(CPUPool(before[:2])):
        torch.ones(LARGE).add_(1)
        assert in_forked_child(mask_of_main) == repr(before)
        assert [cpus_of(member) for member in team_of_this_thread()] == [[c] for c in before[:2]]
    assert mask_of_main() == before


def test_child_can_pin_again_and_use_torch(before):
    def in_child():
        with pin(CPUPool(before[-1:])):
            inside = mask_of_main()
            total = torch.ones(LARGE).add_(1).sum().item()
        return inside, total, mask_of_main()

    with pin(CPUPool(before[:1])):
        assert in_forked_child(in_child) == repr((before[-1:], 2.0 * LARGE, before))


def test_data_loader_workers(before):
    with pin(CPUPool(before[:1])):
        assert worker_masks() == [before, before]
    assert worker_masks() == [before, before]


def test_child_forked_inside_gets_the_original_mask_without_executors():
    program = """
import os
import corestream
before = os.sched_getaffinity(0)
with corestream.pin(corestream.CPUPool([min(before)])):
    child = os.fork()
    if child == 0:
        os._exit(0 if os.sched_getaffinity(0) == before else 3)
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    if len(corestream.allowed_cpus()) < 2:
        pytest.skip("needs two CPUs")
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
