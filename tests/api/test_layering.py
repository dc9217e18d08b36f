"""Imports go downwards only; what chooses CPUs or launches processes never loads torch.

cli -> serve, tuning, bench, doctor -> lowering -> runtime, optimization, quantization -> cpu ->
errors, and launch, topo -> cpu, errors. A new package gets its line in ALLOWED. What the runtime
asks of `lowering` goes through one private door, `_lowering` (docs/decisions/0010).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.api.source_tree import PACKAGE, module_parts, package_modules, parse, show

_OPERATORS = {"errors", "ops", "nn"}
_MIDDLE = {"runtime", "optimization", "lowering", "quantization", "measure", "onednn", "profiles"}
_BELOW_TOOLS = {"cpu", "optim"} | _OPERATORS | _MIDDLE
_TOOLS = {"serve", "tuning", "bench", "doctor", "launch", "topo"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "cpu": {"errors"},
    "launch": {"cpu", "errors"},
    "topo": {"cpu", "errors"},
    "profiles": {"cpu", "errors"},
    "ops": {"errors"},
    "nn": {"errors", "ops"},
    "optim": {"errors", "ops"},
    "runtime": {"cpu", "errors", "profiles"},
    "measure": {"errors"},
    "onednn": {"cpu", "errors"},
    "optimization": {"cpu", "measure"} | _OPERATORS,
    "_lowering": {"lowering", "runtime"},
    "lowering": {"cpu", "measure", "optimization", "runtime"} | _OPERATORS,
    "quantization": {"cpu", "measure"} | _OPERATORS,
    "serve": _BELOW_TOOLS,
    "tuning": _BELOW_TOOLS,
    "bench": _BELOW_TOOLS,
    "doctor": _BELOW_TOOLS,
    "cli": _TOOLS | _BELOW_TOOLS,
    "__main__": {"cli"} | _TOOLS | _BELOW_TOOLS,
}
TORCH_FREE = {"errors", "cpu", "launch", "topo"}
NATIVE = {"_core", "_torch"}


def imported_names(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, wherever it stands, import_module("…") included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from ((node.lineno, a.value) for a in node.args if isinstance(a, ast.Constant))


def _package(path: Path) -> tuple[str, ...]:
    parts = ("corestream", *module_parts(path))
    return parts if path.name == "__init__.py" else parts[:-1]


def _complaint(layer: str, name: str, torch_users: set[str]) -> str | None:
    root, _, rest = name.partition(".")
    if root == "torch":
        return f"{layer} must not import torch" if layer in TORCH_FREE else None
    if root != "corestream":
        return None
    target = rest.partition(".")[0]
    if target in {"_torch"} | torch_users:
        return f"{layer} must not load torch through {target}" if layer in TORCH_FREE else None
    if target == layer or target.startswith("_"):
        return None
    if target not in ALLOWED:
        return f"import {rest or name} from the module that defines it, not through the front"
    allowed = ALLOWED.get(layer, set())
    if target == "errors" or target in allowed:
        return None
    return f"{layer} must not import {target}"


def violations(path: Path, source: str, torch_users: set[str] | None = None) -> list[str]:
    layer = module_parts(path)[0]
    if layer not in ALLOWED and not layer.startswith("_"):
        return [f"{show(path)}: give {layer!r} its place in ALLOWED of tests/api/test_layering.py"]
    found = []
    for line, name in imported_names(ast.parse(source), _package(path)):
        if complaint := _complaint(layer, name, torch_users or set()):
            found.append(f"{show(path, line)}: {complaint}")
    return found


def _is_front(path: Path) -> bool:
    return module_parts(path) == ("__init__",)


def _torch_users() -> set[str]:
    """The package's own private top-level modules that load torch."""
    users = set()
    for path in package_modules():
        parts = module_parts(path)
        if len(parts) == 1 and parts[0].startswith("_") and parts[0] not in ALLOWED:
            names = {name for _, name in imported_names(parse(path), _package(path))}
            if any(name.split(".")[0] == "torch" or "._torch" in name for name in names):
                users.add(parts[0])
    return users - {"__init__"}


def test_imports_go_downwards():
    torch_users = _torch_users()
    modules = [path for path in package_modules() if not _is_front(path)]
    assert modules
    found = [v for path in modules for v in violations(path, path.read_text(), torch_users)]
    assert not found, "\n".join(found)


def test_a_planted_upward_import_is_found():
    cases = {
        "cpu/pool.py": "import torch",
        "cpu/topology.py": "def f():\n    from torch import nn",
        "cpu/budget.py": "from ..runtime import pin",
        "launch/plan.py": "from corestream.runtime.pin import pin",
        "launch/run.py": "import corestream._torch",
        "launch/cli.py": "from corestream import _native",
        "runtime/task.py": "import importlib\nimportlib.import_module('corestream.serve')",
        "optimization/config.py": "from corestream.runtime import streams",
        "lowering/cache.py": "from corestream import CPUPool",
        "_lazy.py": "from corestream.cpu import CPUSet",
        "unheard_of/thing.py": "",
    }
    users = {"_native"}
    missed = [n for n, source in cases.items() if not violations(PACKAGE / n, source, users)]
    assert missed == []


def test_downward_imports_are_fine():
    cases = {
        "cpu/pool.py": "from .cpu_set import CPUSet\nfrom ..errors import X\nimport os",
        "cpu/__init__.py": "from .pool import CPUPool\nfrom corestream import _core",
        "runtime/pin.py": "import torch\nfrom corestream.cpu import CPUPool\nfrom .. import _torch",
        "serve/server.py": "from corestream.runtime.streams import MultiStreamModule",
    }
    assert [v for name, source in cases.items() for v in violations(PACKAGE / name, source)] == []
