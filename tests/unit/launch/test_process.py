"""System calls of an instance to be: what is refused without harm, and what is not."""

from __future__ import annotations

import ctypes
import errno
import os
import platform

import pytest

from corestream.launch import InstancePlan
from corestream.launch import process as process_module
from corestream.launch.process import bind_memory, confine


class Kernel:
    """A C library whose system calls are answered with an errno."""

    def __init__(self, answer: int) -> None:
        self.answer = answer
        self.calls: list[tuple[int, int, list[int], int]] = []

    def syscall(self, number, mode, mask, max_node) -> int:
        self.calls.append((number.value, mode.value, list(mask), max_node.value))
        ctypes.set_errno(self.answer)
        return -1 if self.answer else 0


@pytest.fixture
def kernel(monkeypatch) -> Kernel:
    kernel = Kernel(0)
    monkeypatch.setattr(process_module, "_libc", kernel)
    return kernel


def instance(**fields) -> InstancePlan:
    usual = {"index": 3, "cpus": (0,), "numa_nodes": (0,), "argv": ("x",), "is_pinned": False}
    return InstancePlan(**(usual | fields))


def test_memory_is_bound_to_the_nodes(kernel, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert bind_memory([0, 2, 65]) is None
    assert kernel.calls == [(238, 2, [0b101, 0b10], 129)]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EINVAL])
def test_a_refused_memory_policy_is_a_line_and_no_error(kernel, number):
    kernel.answer = number
    note = confine(instance(memory_nodes=(0, 1)))
    text = os.strerror(number)
    assert note == f"memory of instance 3 is not bound to NUMA nodes 0-1: {text}"


def test_an_unknown_architecture_is_a_line_and_no_error(kernel, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    assert "set_mempolicy on vax is not known" in confine(instance(memory_nodes=(0,)))
    assert kernel.calls == []


def test_without_membind_memory_is_left_alone(kernel):
    assert confine(instance()) is None
    assert kernel.calls == []


def test_a_refused_mask_is_an_error_that_names_the_cpus():
    before = os.sched_getaffinity(0)
    with pytest.raises(OSError, match="CPUs 4094-4095 of instance 3: Invalid argument") as caught:
        confine(instance(cpus=(4094, 4095), is_pinned=True))
    assert caught.value.errno == errno.EINVAL
    assert os.sched_getaffinity(0) == before
