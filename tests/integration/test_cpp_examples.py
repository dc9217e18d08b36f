"""The C++ examples, built as a user would against the package and the wheel's libtorch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
SOURCES = REPO / "examples/cpp"
# Kept between runs: libtorch's headers take half a minute to parse.
BUILD = REPO / "build/examples-cpp"

pytestmark = pytest.mark.needs_build


def run(*command: object) -> str:
    # The tools that `make install` put beside the interpreter, where there are such.
    path = os.pathsep.join((str(Path(sys.prefix, "bin")), os.environ["PATH"]))
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def programs() -> Path:
    import torch

    import corestream

    prefix = f"{corestream.cmake_prefix_path};{torch.utils.cmake_prefix_path}"
    run("cmake", "-S", SOURCES, "-B", BUILD, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", BUILD)
    return BUILD


# The first test of the session builds them all.
BUILD_TIMEOUT = pytest.mark.timeout(600)


@BUILD_TIMEOUT
def test_core_only(programs):
    assert run(programs / "core_only") == "primes below 100000: 9592\n"
    libraries = run("ldd", programs / "core_only")
    assert "libcorestream.so" in libraries
    assert "torch" not in libraries


@BUILD_TIMEOUT
def test_with_cpu_pool(programs):
    first_cpu = min(os.sched_getaffinity(0))
    expected = f"pinned to CPUs {first_cpu}\nsum of 100 rows: 100\n"
    assert run(programs / "with_cpu_pool") == expected


@BUILD_TIMEOUT
def test_task(programs):
    assert run(programs / "task") == "equal to softmax: true\n"


@BUILD_TIMEOUT
@pytest.mark.parametrize("program", ["with_cpu_pool", "task", "two_streams"])
def test_programs_with_libtorch_have_the_hooks(program, programs):
    """A linker that drops libraries without a use must keep the one that works by being loaded."""
    assert "libcorestream_torch.so" in run("ldd", programs / program)


@BUILD_TIMEOUT
def test_two_streams(programs, tmp_path):
    import torch

    layers = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    path = tmp_path / "model.pt"
    torch.jit.script(layers).save(path)
    expected = "rows: 16\nequal to one call: true\ninference mode: true\n"
    assert run(programs / "two_streams", path) == expected
