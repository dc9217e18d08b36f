"""One word for one thing: identifiers that the glossary of docs and design rules out."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator

from tests.api import cpp_source
from tests.api.source_tree import REPO, cpp_files, files, show

# rejected: what to write
WORDS = {
    "affinitize": "pin",
    "core_list": "core_ids",
    "hyper_thread": "smt_sibling",
    "hyperthread": "smt_sibling",
    "logical_core": "cpu",
    "num_cores_ht": "num_cpus",
    "physical_cpu": "core",
    "thread_pool_size": "team_size",
    "vcpu": "cpu",
}
# IPEX's name, kept so that its users' programs run unchanged.
EXCEPTIONS = {"get_core_list_of_node_id"}

PYTHON_FOLDERS = ("src", "tests", "benchmarks", "examples")
CPP_FOLDERS = ("csrc", "include", "tests", "examples")


def snake_case(identifier: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", identifier).lower()


def rejected(identifier: str) -> str | None:
    if identifier in EXCEPTIONS:
        return None
    name = snake_case(identifier)
    return next((word for word in WORDS if word in name), None)


def python_identifiers(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string


def cpp_identifiers(source: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(
        cpp_source.without_comments_and_strings(source).splitlines(), start=1
    ):
        for match in re.finditer(r"[A-Za-z_]\w*", line):
            yield number, match.group()


def test_identifiers_use_the_glossary():
    sources = [
        (path, python_identifiers)
        for folder in PYTHON_FOLDERS
        for path in files(REPO / folder, ".py", ".pyi")
    ]
    sources += [(path, cpp_identifiers) for path in cpp_files(*CPP_FOLDERS)]
    found = []
    for path, identifiers in sources:
        for line, identifier in identifiers(path.read_text()):
            if word := rejected(identifier):
                found.append(f"{show(path, line)}: {identifier}; write {WORDS[word]}")
    assert not found, "\n".join(found)


def test_planted_words_are_found():
    python = "my_core_list = 1\nclass HyperThreads: ...\nn = get_core_list_of_node_id(0)\n"
    assert [line for line, name in python_identifiers(python) if rejected(name)] == [1, 2]
    cpp = '// core_list\nint logicalCore = f("vcpu");\n'
    assert [line for line, name in cpp_identifiers(cpp) if rejected(name)] == [2]
