"""Lookups in oneDNN's caches, counted from its log."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from corestream.onednn import cache_counts, primitive_cache_capacity
from corestream.onednn.cache import count_lookups


def make_conv(channels: int):
    """A convolution that no other test has run, and a call of it."""
    conv = torch.nn.Conv2d(channels, 2 * channels, 3, groups=2)

    def run(batch: int = 16) -> None:
        with torch.no_grad():
            conv(torch.ones(batch, channels, 9, 11))

    return run


def num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_second_call_of_a_shape_finds_what_the_first_made():
    run = make_conv(24)
    with cache_counts() as first:
        run()
    with cache_counts() as second:
        run()
    with cache_counts() as other_shape:
        run(batch=17)
    assert first.misses > 0
    assert any("convolution" in text and "mb16" in text for text in first.missed)
    assert len(first.missed) == first.misses
    assert (second.misses, second.missed) == (0, ())
    assert second.hits >= first.misses
    assert any("convolution" in text and "mb17" in text for text in other_shape.missed)


def test_scopes_nest():
    run = make_conv(28)
    with cache_counts() as outer:
        run()
        with cache_counts() as inner:
            run()
        assert outer.hits == outer.misses == 0  # only known when its scope has ended
    assert (inner.misses, inner.hits > 0) == (0, True)
    assert outer.misses > 0
    assert outer.hits >= inner.hits


def test_other_threads_are_counted_and_output_is_passed_on(capfd):
    run = make_conv(32)
    with cache_counts() as counts:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        print("from Python")
        os.write(1, b"from below\n")
    assert counts.misses > 0
    printed = capfd.readouterr().out
    assert "from Python\n" in printed
    assert "from below\n" in printed
    assert "onednn_verbose" not in printed


def test_overlapping_scopes_of_threads_each_count_and_restore_standard_output(capfd):
    run = make_conv(36)
    run()
    start, found = threading.Barrier(4), []

    def count() -> None:
        start.wait()
        for _ in range(5):
            with cache_counts() as counts:
                run()
            found.append(counts)

    before = os.fstat(1)
    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert all(counts.hits > 0 for counts in found)
    after = os.fstat(1)
    assert (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino)
    assert "onednn_verbose" not in capfd.readouterr().out


def test_everything_is_put_back_after_an_exception(capfd):
    before = os.fstat(1).st_ino, num_descriptors()
    run = make_conv(40)
    with pytest.raises(KeyError), cache_counts():
        raise KeyError
    run()
    assert (os.fstat(1).st_ino, num_descriptors()) == before
    assert "onednn_verbose" not in capfd.readouterr().out


def test_a_child_forked_inside_prints_once(capfd):
    run = make_conv(44)
    with cache_counts() as counts:
        os.write(1, b"parent\n")
        child = os.fork()
        if child == 0:
            os.write(1, b"child\n")
            os._exit(0)
        os.waitpid(child, 0)
        run()
    assert counts.misses > 0
    assert capfd.readouterr().out == "parent\nchild\n"


def test_lines_of_the_log_with_and_without_time_stamps():
    counts = count_lookups(
        [
            "onednn_verbose,v1,primitive,create:cache_miss,cpu,matmul,brg,undef,a,,4x8:8x3,0.25",
            "onednn_verbose,v1,1781.5,primitive,create:cache_hit,cpu,matmul,brg,a,4x8:8x3,0.0625",
            "onednn_verbose,v1,primitive,create_nested:cache_hit,cpu,matmul,brg,a,4x8:8x3,0.125",
            "onednn_verbose,v1,graph,compile:cache_miss,cpu,1,conv,aten::relu,in0,fpm:strict,2",
            "onednn_verbose,v1,graph,compile:cache_hit,cpu,1,conv,aten::relu,in0,fpm:strict,0",
            "onednn_verbose,v1,primitive,exec,cpu,matmul,brg,undef,a,,4x8:8x3,15.5",
            "onednn_verbose,v1,info,cpu,isa:Intel AVX2",
        ]
    )
    assert (counts.hits, counts.misses) == (2, 1)
    assert (counts.graph_hits, counts.graph_misses) == (1, 1)
    assert counts.missed[0] == "matmul,brg,undef,a,,4x8:8x3"


PROGRAM = """
import torch
from corestream.onednn import cache_counts, primitive_cache_capacity
conv, images = torch.nn.Conv2d(16, 16, 3), torch.ones(16, 16, 8, 8)
with torch.no_grad():
    conv(images)
    with cache_counts() as counts:
        conv(images)
print(primitive_cache_capacity(), counts.hits > 0, counts.misses > 0)
"""


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0", "0 False True"), ("500", "500 True False"), (" 7x", "7"), ("x", "0 False True")],
)
def test_the_capacity_is_what_onednn_reads(value, expected):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "ONEDNN_PRIMITIVE_CACHE_CAPACITY": value},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stdout.startswith(expected)


def test_the_default_capacity(monkeypatch):
    for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"):
        monkeypatch.delenv(variable, raising=False)
    assert primitive_cache_capacity() == 1024
    monkeypatch.setenv("DNNL_PRIMITIVE_CACHE_CAPACITY", "12")
    assert primitive_cache_capacity() == 12
