"""Allocators are found where the loader would look, for the right architecture only."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from corestream.launch import find_allocator
from tests.topologies.builder import write

HEADER = Path(sys.executable).read_bytes()[:20]
FOREIGN = HEADER[:18] + bytes([HEADER[18] ^ 0xFF, HEADER[19]])
JEMALLOC = "libjemalloc.so.2"


def place(path: Path, header: bytes = HEADER) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header)
    return str(path)


def find(root: Path, environ: dict[str, str] | None = None, allocator="jemalloc") -> str | None:
    return find_allocator(allocator, environ=environ or {}, root=root)


def test_the_default_needs_no_library(tmp_path):
    assert find(tmp_path, allocator="default") is None


@pytest.mark.parametrize("folder", ["usr/lib", "lib64", "usr/local/lib", "opt/own"])
def test_folders_of_the_loader(tmp_path, folder):
    configuration = {
        "etc/ld.so.conf": "include ld.so.conf.d/*.conf  # more\n",
        "etc/ld.so.conf.d/own.conf": "/opt/own\n",
    }
    write(tmp_path, configuration)
    expected = place(tmp_path / folder / JEMALLOC)
    assert find(tmp_path) == expected


def test_the_users_path_comes_first(tmp_path):
    place(tmp_path / "usr/lib" / JEMALLOC)
    own = place(tmp_path / "own" / JEMALLOC)
    assert find(tmp_path, {"LD_LIBRARY_PATH": f":{tmp_path / 'own'}"}) == own


def test_conda_comes_before_the_system(tmp_path):
    place(tmp_path / "usr/lib" / JEMALLOC)
    own = place(tmp_path / "conda/lib" / JEMALLOC)
    assert find(tmp_path, {"CONDA_PREFIX": str(tmp_path / "conda")}) == own


def test_tcmalloc_without_profilers_is_preferred(tmp_path):
    place(tmp_path / "lib/libtcmalloc.so.4")
    minimal = place(tmp_path / "usr/lib/libtcmalloc_minimal.so.4")
    assert find(tmp_path, allocator="tcmalloc") == minimal


def test_another_architecture_is_passed_over(tmp_path):
    place(tmp_path / "usr/local/lib" / JEMALLOC, FOREIGN)
    place(tmp_path / "lib64" / JEMALLOC, b"INPUT(libjemalloc.so.2.3)  # a linker script")
    right = place(tmp_path / "usr/lib" / JEMALLOC)
    assert find(tmp_path) == right


def test_a_configuration_that_includes_itself_ends(tmp_path):
    write(tmp_path, {"etc/ld.so.conf": "include /etc/ld.so.conf\n/opt\n"})
    right = place(tmp_path / "opt" / JEMALLOC)
    assert find(tmp_path) == right


@pytest.mark.parametrize(
    ("allocator", "package"), [("jemalloc", "libjemalloc2"), ("tcmalloc", "libtcmalloc-minimal4")]
)
def test_a_missing_one_is_named_with_its_package(tmp_path, allocator, package):
    with pytest.raises(FileNotFoundError, match=f"run: apt-get install {package}"):
        find(tmp_path, allocator=allocator)
