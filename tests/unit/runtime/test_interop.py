"""Torch's inter-op pool: each case in a process of its own, which has but one pool."""

from __future__ import annotations

import pytest

from corestream.runtime.interop import interop_pool, set_num_interop_threads
from tests.integration.subprograms import finish, start

pytestmark = pytest.mark.needs_build

START = """
import json, os, warnings
warnings.simplefilter("ignore")
import torch
from corestream.errors import CorestreamError
from corestream.runtime.info import runtime_info
from corestream.runtime.interop import interop_pool, set_num_interop_threads

def add_one(x):
    return x + 1

@torch.jit.script
def forked(x):
    return torch.jit.wait(torch.jit.fork(add_one, x))

def report(value):
    print(json.dumps(value), flush=True)
    # Torch's own end of a process aborts now and then if its inter-op pool has only just started
    # ("terminate called without an active exception"), without corestream too.
    os._exit(0)
"""


@pytest.fixture
def report_of(tmp_path):
    """What a program prints; from a file, because TorchScript reads the source of functions."""

    def run(code):
        program = tmp_path / "program.py"
        program.write_text(START + code)
        return finish(start([str(program)])).report()

    return run


def test_size_and_start_are_reported(report_of):
    before, after = report_of(
        """
set_num_interop_threads(3)
before = runtime_info()
forked(torch.ones(2))
report([before, runtime_info()])
"""
    )
    assert before["interop_pool"] == {
        "num_threads": 3,
        "is_started": False,
        "thread_ids": [],
        "cpus": [],
    }
    pool = after["interop_pool"]
    assert pool["num_threads"] == 3
    assert pool["is_started"]
    assert 1 <= len(pool["thread_ids"]) <= 3
    assert pool["cpus"] == [after["masks"]["startup"]]


def test_asking_does_not_fix_the_size(report_of):
    assert report_of(
        """
interop_pool(), runtime_info()
set_num_interop_threads(torch.get_num_interop_threads() + 1)
report(interop_pool().num_threads > 1)
"""
    )


@pytest.mark.parametrize(
    ("first", "cause"),
    [
        ("forked(torch.ones(2))", "its threads run since the first torch.jit.fork"),
        ("torch.set_num_interop_threads(size)", "it was set before, or the pool has started"),
        ("set_num_interop_threads(size)", "it was set before, or the pool has started"),
    ],
    ids=["forked", "set by torch", "set by us"],
)
def test_too_late_says_what_the_size_is_and_why(report_of, first, cause):
    message, size = report_of(
        f"""
size = torch.get_num_interop_threads()
{first}
try:
    set_num_interop_threads(size + 1)
except CorestreamError as error:
    report([str(error), size])
"""
    )
    assert message.startswith(
        "num_threads must be chosen once, before the inter-op pool starts; "
        f"got {size + 1} where the size is {size} already: {cause}"
    )
    assert message.endswith("call this right after `import torch`, in the main module")


def test_the_same_size_again_is_no_error(report_of):
    assert report_of(
        """
set_num_interop_threads(2)
set_num_interop_threads(2)
forked(torch.ones(2))
set_num_interop_threads(2)
report(interop_pool().num_threads == 2)
"""
    )


def test_a_forked_child_has_no_threads_of_the_pool(report_of):
    started, in_child = report_of(
        """
forked(torch.ones(2))
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.write(writing, json.dumps(interop_pool().is_started).encode())
    os._exit(0)
os.waitpid(child, 0)
report([interop_pool().is_started, json.loads(os.read(reading, 100))])
"""
    )
    assert (started, in_child) == (True, False)


def test_streams_never_start_it(report_of):
    assert not report_of(
        """
import corestream
with corestream.TaskExecutor(corestream.CPUPool(), 1) as executor:
    task = corestream.Task(forked, executor)
    assert torch.equal(task(torch.ones(2)).get(60), torch.full((2,), 2.0))
    report(interop_pool().is_started)
"""
    )


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0, ValueError, "num_threads must be at least 1; got 0"),
        (-2, ValueError, "num_threads must be at least 1; got -2"),
        (True, TypeError, "num_threads must be an integer; got True"),
        (2.0, TypeError, "num_threads must be an integer; got 2.0"),
        ("2", TypeError, "num_threads must be an integer; got '2'"),
    ],
)
def test_wrong_sizes_change_nothing(value, error, text):
    before = interop_pool()
    with pytest.raises(error, match=text):
        set_num_interop_threads(value)
    assert interop_pool().num_threads == before.num_threads


def test_its_threads_keep_the_mask_of_the_first_fork(report_of):
    cpus, cpu = report_of(
        """
startup = os.sched_getaffinity(0)
os.sched_setaffinity(0, {min(startup)})
forked(torch.ones(2))
os.sched_setaffinity(0, startup)
forked(torch.ones(2))
report([interop_pool().cpus, str(min(startup))])
"""
    )
    assert cpus == [cpu]
