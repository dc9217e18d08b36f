"""`module:name` on a command line: what is found, and what is said when it is not."""

from __future__ import annotations

import sys

import pytest

from corestream.measure.named import importable_from_here, is_dotted_name, one_line, resolve

MODULE = "named_by_a_test"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop(MODULE, None)


def test_a_module_of_the_current_folder_is_found_in_the_scope_only(here):
    (here / f"{MODULE}.py").write_text(
        "class Maker:\n    @staticmethod\n    def make(): return 7\n"
    )
    before = list(sys.path)
    with pytest.raises(ValueError, match=f"no module '{MODULE}'"):
        resolve(f"{MODULE}:Maker", parameter="model")
    with importable_from_here():
        assert resolve(f"{MODULE}:Maker.make", parameter="model")() == 7
    assert sys.path == before


def test_a_failing_import_is_told_in_one_line(here):
    (here / f"{MODULE}.py").write_text("import no_such_thing\n")
    with importable_from_here(), pytest.raises(ValueError, match="model must name") as caught:
        resolve(f"{MODULE}:make", parameter="model")
    assert "importing named_by_a_test raised ModuleNotFoundError: No module named" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)


def test_a_missing_name_is_told_with_what_there_is(here):
    (here / f"{MODULE}.py").write_text("import math\nfrom math import floor\ndef build(): ...\n")
    with importable_from_here(), pytest.raises(ValueError, match=r"it has build$"):
        resolve(f"{MODULE}:make", parameter="model")


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("a:b", True),
        ("a.b:c.d", True),
        ("model.pt2", False),
        ("8x128:int64", False),
        ("scalar:int64", True),
        ("a:", False),
        (":a", False),
        ("a b:c", False),
    ],
)
def test_what_looks_like_a_name(text, is_name):
    assert is_dotted_name(text) is is_name


def test_the_form_is_asked_for():
    with pytest.raises(ValueError, match=r"^model must be of the form module:name; got 'x'"):
        resolve("x", parameter="model")


def test_long_errors_are_cut():
    text = one_line(RuntimeError("x" * 1000), max_chars=50)
    assert len(text) == 50
    assert text.endswith("...")
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
