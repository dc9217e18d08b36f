"""The public surface: every package names it, and importing it changes nothing."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
import tomllib

import pytest

from tests.api.source_tree import (
    PACKAGE,
    REPO,
    literal_all,
    module_parts,
    package_modules,
    parse,
    show,
)


def run_python(program: str) -> str:
    """What the program prints, in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_public_package_has_a_sorted_literal_all():
    found = []
    for path in package_modules():
        if path.name != "__init__.py" or any(p.startswith("_") for p in module_parts(path)[1:]):
            continue
        names = literal_all(parse(path))
        if names is None:
            found.append(f"{show(path)}: write __all__ out as a list of strings")
        elif names != sorted(set(names)):
            found.append(f"{show(path)}: __all__ must be sorted, each name once")
    assert not found, "\n".join(found)


def test_no_public_name_is_also_a_package():
    """Importing the package would put it in the name's place (docs/decisions/0011)."""
    names = literal_all(parse(PACKAGE / "__init__.py"))
    assert [name for name in names if (PACKAGE / name).exists()] == []


def _runs_at_import(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The import statements that run when the module is imported, not those for type checkers."""
    found: list[ast.stmt] = []
    for node in statements:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            found += _runs_at_import(node.body) + _runs_at_import(node.orelse)
        elif isinstance(node, ast.Try):
            found += _runs_at_import(node.body)
    return found


def test_the_front_imports_nothing_but_the_standard_library():
    path = PACKAGE / "__init__.py"
    found = []
    for node in _runs_at_import(parse(path).body):
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            # Private helpers of the front itself may do what they like, subject to the run below.
            inside = node.level > 0 or (node.module or "").startswith("corestream")
            if inside and (node.module or names[0]).rpartition(".")[2].startswith("_"):
                continue
            names = [node.module or ""] if not inside else [f"corestream.{node.module}"]
        found += [n for n in names if n.split(".")[0] not in sys.stdlib_module_names]
    assert found == []


def test_the_version_is_the_same_everywhere():
    versions = {tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"]}
    for path in (PACKAGE / "__init__.py", PACKAGE / "_version.py"):
        if path.exists():
            versions |= set(re.findall(r'^__version__\b.*= "(.+)"', path.read_text(), re.M))
    project = re.compile(r"project\(\s*corestream\s[^)]*\bVERSION\s+(\d[\w.]*)", re.I)
    versions |= set(project.findall((REPO / "CMakeLists.txt").read_text()))
    assert len(versions) == 1, versions


@pytest.mark.needs_build
def test_every_exported_name_exists():
    program = """
        import importlib, json, pkgutil, corestream
        packages = [m.name for m in pkgutil.iter_modules(corestream.__path__) if m.ispkg]
        public = [f"corestream.{name}" for name in packages if not name.startswith("_")]
        names, missing = ["corestream", *public], []
        for name in names:
            module = importlib.import_module(name)
            missing += [f"{name}.{n}" for n in module.__all__ if not hasattr(module, n)]
            missing += [f"dir({name}): {n}" for n in module.__all__ if n not in dir(module)]
        print(json.dumps(missing))
    """
    assert json.loads(run_python(program)) == []


@pytest.mark.needs_build
def test_an_unknown_name_is_an_attribute_error():
    import corestream

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = corestream.no_such_name


@pytest.mark.needs_build
@pytest.mark.parametrize(
    "module",
    [
        "corestream",
        "corestream.cli",
        "corestream.cpu",
        "corestream.doctor",
        "corestream.errors",
        "corestream.launch",
        "corestream.topo",
    ],
)
def test_torch_is_not_loaded(module):
    loaded = run_python(f"import sys, {module}; print(*{{m.split('.')[0] for m in sys.modules}})")
    assert "torch" not in loaded.split()
    assert "numpy" not in loaded.split()


@pytest.mark.needs_build
def test_import_has_no_side_effects():
    program = """
        import json, logging, os, signal, sys, threading, warnings
        import torch  # its side effects are its own

        def state():
            return {
                "environ": dict(os.environ),
                "affinity": sorted(os.sched_getaffinity(os.getpid())),
                "threads": len(os.listdir("/proc/self/task")),
                "torch threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
                "log handlers": [repr(h) for h in logging.getLogger().handlers],
                "log level": logging.getLogger().level,
                "warning filters": len(warnings.filters),
                "signal handlers": [repr(signal.getsignal(s)) for s in signal.valid_signals()],
                "hooks": [repr(h) for h in (sys.excepthook, threading.excepthook)],
                "path": sys.path,
            }

        def attributes():
            classes = [torch.nn.Module, torch.Tensor, threading.Thread]
            owners = [torch, torch.jit, torch.nn, os, *classes]
            return {(str(owner), name): id(value) for owner in owners
                    for name, value in vars(owner).items() if name != "_C"}

        modules, before, patched = set(sys.modules), state(), attributes()
        import corestream, corestream.runtime
        after, now = state(), attributes()
        new = {name.split(".")[0] for name in set(sys.modules) - modules}
        print(json.dumps({
            "changed": {k: [before[k], after[k]] for k in before if before[k] != after[k]},
            "patched": [str(k) for k in patched if now.get(k) != patched[k]],
            "loaded": sorted(new - set(sys.stdlib_module_names) - {"corestream", "torch"}),
        }))
    """
    assert json.loads(run_python(program)) == {"changed": {}, "patched": [], "loaded": []}
