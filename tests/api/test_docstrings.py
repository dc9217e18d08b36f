"""What users import says what it does, how to call it, and how it behaves with threads.

Checked on the source, so that it needs no build: the names of every public package's `__all__`.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.source_tree import literal_all, package_modules, parse, show

SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Example):", re.MULTILINE)
THREADS = re.compile(r"thread|\bGIL\b", re.IGNORECASE)

AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef
Definition = AnyFunction | ast.ClassDef


def speaks_of_threads(docstring: str) -> bool:
    """Whether the last line, or the one that it continues, does; sections are indented."""
    lines = inspect.cleandoc(docstring).splitlines()
    is_text = not lines[-1][:1].isspace() and not SECTION.match(lines[-1])
    return is_text and any(THREADS.search(line) for line in lines[-2:] if not line[:1].isspace())


def is_record(node: Definition) -> bool:
    """A frozen dataclass: a plain value, with nothing to say about threads."""
    return any("frozen=True" in ast.unparse(decorator) for decorator in node.decorator_list)


def _needed_sections(node: Definition) -> Iterator[str]:
    yield "Example"
    if isinstance(node, ast.ClassDef):
        return
    arguments = node.args
    if any([arguments.args, arguments.posonlyargs, arguments.kwonlyargs, arguments.vararg]):
        yield "Args"
    if node.returns is not None and ast.unparse(node.returns) not in {"None", "Never", "NoReturn"}:
        yield "Returns"


def complaints(node: Definition) -> list[str]:
    docstring = ast.get_docstring(node)
    if docstring is None:
        return ["has no docstring"]
    if is_record(node):
        return []
    sections = set(SECTION.findall(docstring))
    if "Yields" in sections:
        sections.add("Returns")  # a context manager written as a generator
    found = [f"has no {name}: section" for name in _needed_sections(node) if name not in sections]
    if not speaks_of_threads(docstring):
        found.append("must end with a line on thread-safety and the GIL")
    return found


def _exported_by_package() -> Iterator[tuple[Path, list[str]]]:
    for path in package_modules():
        if path.name == "__init__.py":
            yield path, literal_all(parse(path)) or []


def _exported_definitions() -> Iterator[tuple[Path, Definition]]:
    exported = {name for _, names in _exported_by_package() for name in names}
    for path in package_modules():
        if path.name == "errors.py":
            continue  # exceptions; their tree is described at its top
        for node in parse(path).body:
            if isinstance(node, Definition) and node.name in exported:
                yield path, node


def test_exported_definitions_are_documented():
    found = [
        f"{show(path, node.lineno)}: {node.name} {complaint}"
        for path, node in _exported_definitions()
        for complaint in complaints(node)
    ]
    assert not found, "\n".join(found)


def test_public_methods_of_exported_classes_have_docstrings():
    found = [
        f"{show(path, member.lineno)}: {node.name}.{member.name}"
        for path, node in _exported_definitions()
        if isinstance(node, ast.ClassDef)
        for member in node.body
        if isinstance(member, AnyFunction)
        and not member.name.startswith("_")
        and ast.get_docstring(member) is None
        and not any(ast.unparse(d).endswith(".setter") for d in member.decorator_list)
    ]
    assert not found, "\n".join(found)


@pytest.mark.needs_build
def test_native_definitions_are_documented():
    """What the extension defines has no source to read, so its docstrings are asked for."""
    import corestream

    found = []
    for name in corestream.__all__:
        value = getattr(corestream, name)
        is_exception = isinstance(value, type) and issubclass(value, BaseException)
        is_native = getattr(value, "__module__", "").startswith("corestream._")
        if callable(value) and is_native and not is_exception:
            docstring = inspect.getdoc(value)
            if not docstring or not speaks_of_threads(docstring):
                found.append(name)
    assert not found


def test_planted_docstrings_are_found():
    good = '''def f(a: int) -> int:
    """Adds one.

    Args:
        a: A number.

    Returns:
        One more.

    Example:
        >>> f(1)
        2

    Thread-safe; holds the GIL.
    """'''
    bad = {
        good.replace("Thread-safe; holds the GIL.", "Fast."): "thread-safety",
        good.replace("    Thread-safe; holds the GIL.\n", ""): "thread-safety",
        good.replace(
            "Thread-safe; holds the GIL.", "Notes:\n        It uses no thread."
        ): "thread-safety",
        good.replace("Args:", "Parameters"): "Args",
        good.replace("Returns:", "Gives"): "Returns",
        good.replace("Example:", "So"): "Example",
        "def f(): ...": "no docstring",
    }
    wrapped = good.replace("safe; holds the GIL", "safe; holds\n    what it needs")
    assert complaints(ast.parse(good).body[0]) == []
    assert complaints(ast.parse(wrapped).body[0]) == []
    for source, expected in bad.items():
        assert expected in " ".join(complaints(ast.parse(source).body[0]))
