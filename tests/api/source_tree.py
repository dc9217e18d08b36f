"""Where the sources are, for the lints of this folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).parents[2]
PACKAGE = REPO / "src" / "corestream"

# What `make build` installs into the package (see .gitignore) is not source.
_INSTALLED = {PACKAGE / "lib", PACKAGE / "include", PACKAGE / "cmake"}


def files(folder: Path, *suffixes: str) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in suffixes and path.is_file() and not _INSTALLED & set(path.parents):
            yield path


def package_modules() -> Iterator[Path]:
    return files(PACKAGE, ".py")


def cpp_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from files(REPO / folder, ".cpp", ".h")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def module_parts(path: Path) -> tuple[str, ...]:
    """("cpu", "pool") for src/corestream/cpu/pool.py, ("cpu",) for its __init__.py, () for ours."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts


def show(path: Path, line: int | None = None) -> str:
    where = str(path.relative_to(REPO)) if path.is_relative_to(REPO) else str(path)
    return where if line is None else f"{where}:{line}"


def literal_all(tree: ast.Module) -> list[str] | None:
    """The module's `__all__`, None when it has none or when it is not written out."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if not any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            continue
        try:
            return list(ast.literal_eval(node.value))
        except ValueError:
            return None
    return None
