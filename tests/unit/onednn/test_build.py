"""oneDNN's version, its ISA and where its memory comes from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from corestream.onednn import VERBOSE_ON, allocator, cpu_isa, verbose, version


def test_version_is_the_one_that_torch_tells_of():
    assert f"v{version()} " in torch.__config__.show()


def test_isa_follows_the_limit_in_the_environment():
    program = "from corestream.onednn import cpu_isa; print(cpu_isa())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "SSE41"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert cpu_isa()
    if "Intel" in cpu_isa():  # oneDNN knows such limits on x86-64 only
        assert "SSE4.1" in done.stdout


def run_conv():
    """A grouped convolution of plain tensors: oneDNN reorders what goes in and comes out."""
    conv, images = torch.nn.Conv2d(16, 32, 3, groups=2), torch.randn(16, 16, 20, 20)

    def run() -> torch.Tensor:
        with torch.no_grad():
            return conv(images)

    run()
    return run


def test_output_and_temporary_memory_of_a_convolution_come_from_c10s_allocator():
    run = run_conv()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        output = run()
    # What c10's CPU allocator reported, and only it does.
    sizes = [
        event.nbytes()
        for event in profile.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    made = [size for size in sizes if size > 0]
    assert output.nbytes in made
    assert sum(made) > output.nbytes
    # All but the output was given back to it.
    assert sum(sizes) <= output.nbytes + 64


def test_scratch_memory_is_handed_to_onednn_by_torch(capfd):
    run = run_conv()
    with verbose(VERBOSE_ON):
        run()
    lines = capfd.readouterr().out.splitlines()
    executed = [line for line in lines if ",primitive,exec," in line]
    assert any(",convolution," in line for line in executed)
    assert all("attr-scratchpad:user" in line for line in executed)


def test_allocator_is_the_library_that_defines_malloc():
    found = allocator()
    assert found.path is None or found.path.exists()
    # The stock interpreter on a distribution: whatever libc it is linked to.
    mapped = Path("/proc/self/maps").read_text()
    preloaded = [name for name in ("jemalloc", "tcmalloc", "mimalloc") if name in mapped]
    assert found.name in (preloaded or ["glibc", "musl"])


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False)])
def test_huge_pages_are_what_torch_was_told(value, expected, monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", value)
    assert allocator().uses_huge_pages is expected
