"""Every Python block of the documentation runs, in the order of its page, as a reader would."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.markdown import REPO, Block, blocks, pages

# torch's inter-op pool, once started, keeps its threads and their OpenMP teams until the process
# ends, and every audit after it would say so.
OWN_PROCESS = {"docs/interop.md"}

PAGES = [page for page in pages() if "tests" not in page.relative_to(REPO).parts]


@pytest.fixture
def module(tmp_path, monkeypatch) -> Iterator[types.ModuleType]:
    """A module with a file, because TorchScript and pickle look for their sources and names."""
    monkeypatch.chdir(tmp_path)
    yield _make_module()
    del sys.modules["page"]


def _make_module() -> types.ModuleType:
    """In the current folder."""
    module = types.ModuleType("page")
    module.__file__ = str(Path.cwd() / "page.py")
    sys.modules["page"] = module
    return module


def _run_session(block: Block, page: Path, module: types.ModuleType) -> None:
    """A block of `>>>` lines: what it prints is compared."""
    parser, flags = doctest.DocTestParser(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = parser.get_doctest(block.code, vars(module), page.name, str(page), block.line - 1)
    doctest.DebugRunner(optionflags=flags).run(test, clear_globs=False)


def run_page(page: Path, text: str, module: types.ModuleType) -> None:
    found = [block for block in blocks(text) if block.language == "python"]
    lines: list[str] = []
    for block in found:
        if not block.code.lstrip().startswith(">>>"):
            # The line numbers of a traceback are the page's own.
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    Path(module.__file__).write_text("\n".join(lines) + "\n")
    for block in found:
        if block.code.lstrip().startswith(">>>"):
            _run_session(block, page, module)
        else:
            padded = "\n" * (block.line - 1) + block.code
            code = compile(padded, module.__file__, "exec", dont_inherit=True)
            exec(code, vars(module))


def run_in_this_process(name: str) -> None:
    """What the subprocess of a page in OWN_PROCESS calls."""
    run_page(REPO / name, (REPO / name).read_text(), _make_module())


@pytest.mark.needs_build
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_page_runs(page, module):
    name = str(page.relative_to(REPO))
    if name not in OWN_PROCESS:
        run_page(page, page.read_text(), module)
        return
    call = f"from {__name__} import run_in_this_process as run; run({name!r})"
    done = subprocess.run(
        [sys.executable, "-c", call],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_blocks_of_a_page_share_their_names(module):
    text = "```python\nx = 1\n```\n```sh\nls\n```\n```python\n>>> x + 1\n2\n```\n"
    run_page(REPO / "page.md", text, module)
    assert module.x == 1


def test_a_wrong_page_fails_in_its_own_line(module):
    with pytest.raises(ZeroDivisionError) as error:
        run_page(REPO / "page.md", "# Title\n\n```python\nx = 1\n1 / 0\n```\n", module)
    assert error.traceback[-1].lineno + 1 == 5
    with pytest.raises(doctest.DocTestFailure):
        run_page(REPO / "page.md", "```python\n>>> 1 + 1\n3\n```\n", module)


def test_classes_of_a_page_have_a_source(module):
    import inspect

    run_page(REPO / "page.md", "a\n```python\nclass A:\n    def f(self): ...\n```\n", module)
    assert inspect.getsource(module.A) == "class A:\n    def f(self): ...\n"
