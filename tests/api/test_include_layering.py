"""csrc: python -> torch -> core. The build enforces it where include folders differ; this says it
before anything is compiled, and for the public headers too."""

from __future__ import annotations

import re
from pathlib import Path

from tests.api.source_tree import REPO, cpp_files, show

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)
TORCH = re.compile(r"^(torch|ATen|c10|caffe2)/")
PYTHON = re.compile(r"^pybind11/|^Python\.h$|^torch/(extension|python)\.h$|/python_\w+\.h$|pybind")

# folder below the repository: what it must not include
FORBIDDEN = {
    "csrc/core": (TORCH, PYTHON, re.compile(r"(^|/)\.\./(torch|python)/")),
    "csrc/torch": (PYTHON, re.compile(r"(^|/)\.\./python/")),
    "csrc/python": (),
    "include/corestream/torch": (PYTHON,),
    "include/corestream": (TORCH, PYTHON),
    "tests/native": (PYTHON,),
}


def rules(path: Path) -> tuple[re.Pattern[str], ...] | None:
    name = path.relative_to(REPO).as_posix()
    matching = [folder for folder in FORBIDDEN if name.startswith(f"{folder}/")]
    return FORBIDDEN[max(matching, key=len)] if matching else None


def violations(path: Path, source: str) -> list[str]:
    patterns = rules(path)
    if patterns is None:
        return [f"{show(path)}: give its folder a rule in tests/api/test_include_layering.py"]
    included = INCLUDE.findall(source)
    return [f"{show(path)}: {name}" for name in included if any(p.search(name) for p in patterns)]


def test_includes_go_downwards():
    paths = list(cpp_files("csrc", "include", "tests/native"))
    assert paths
    found = [violation for path in paths for violation in violations(path, path.read_text())]
    assert not found, "\n".join(found)


def test_planted_includes_are_found():
    planted = {
        "csrc/core/a.cpp": "#include <torch/script.h>",
        "csrc/core/b.h": '# include "c10/util/Exception.h"',
        "csrc/core/c.h": "#include <Python.h>",
        "csrc/core/d.h": '#include "../torch/runner.h"',
        "csrc/torch/a.h": "#include <torch/extension.h>",
        "csrc/torch/b.h": "#include <pybind11/pybind11.h>",
        "include/corestream/pool.h": "#include <ATen/Parallel.h>",
        "csrc/elsewhere/a.h": "",
    }
    missed = [name for name, source in planted.items() if not violations(REPO / name, source)]
    assert missed == []


def test_downward_includes_are_fine():
    fine = {
        "csrc/core/a.cpp": '#include <vector>\n#include "affinity.h"',
        "csrc/torch/a.cpp": '#include <torch/script.h>\n#include "core/affinity.h"',
        "csrc/python/a.cpp": "#include <torch/extension.h>",
    }
    assert [v for name, source in fine.items() for v in violations(REPO / name, source)] == []
