"""MultiStreamModuleHint: what it takes, what it says, what it refuses."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from corestream import MultiStreamModuleHint


def test_it_keeps_positional_and_keyword_entries():
    hint = MultiStreamModuleHint(0, [1, None], mask=(0,), table={"a": -1})
    assert hint.args == (0, [1, None])
    assert hint.kwargs == {"mask": (0,), "table": {"a": -1}}


def test_repr_is_the_call_that_made_it():
    hint = MultiStreamModuleHint(0, {"mask": 0, "table": None}, scale=None)
    assert repr(hint) == "MultiStreamModuleHint(0, {'mask': 0, 'table': None}, scale=None)"
    assert eval(repr(hint)) == hint
    assert repr(MultiStreamModuleHint()) == "MultiStreamModuleHint()"


def test_equality_is_by_value():
    assert MultiStreamModuleHint(0, a=[1]) == MultiStreamModuleHint(0, a=[1])
    assert MultiStreamModuleHint(0) != MultiStreamModuleHint(1)
    assert MultiStreamModuleHint(0) != MultiStreamModuleHint(a=0)
    assert MultiStreamModuleHint(0) != 0


def test_it_cannot_be_hashed_since_it_may_hold_lists():
    with pytest.raises(TypeError, match="unhashable"):
        hash(MultiStreamModuleHint([0]))


@pytest.mark.parametrize(
    "remake", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_are_equal(remake):
    hint = MultiStreamModuleHint(0, [None, 1], mask=0)
    assert remake(hint) == hint


@pytest.mark.parametrize(
    ("args", "kwargs", "path", "value"),
    [
        (("0",), {}, "hint[0]", "'0'"),
        ((0, 1.5), {}, "hint[1]", "1.5"),
        ((True,), {}, "hint[0]", "True"),
        (([0, {0}],), {}, "hint[0][1]", "{0}"),
        (((0, {"a": "b"}),), {}, "hint[0][1]['a']", "'b'"),
        ((), {"mask": object}, "hint.mask", "<class 'object'>"),
        ((), {"mask": [None, False]}, "hint.mask[1]", "False"),
    ],
)
def test_other_leaves_and_containers_are_refused_by_their_place(args, kwargs, path, value):
    message = f"{path} must be an int, None, or a list, tuple or dict of them; got {value}; use a"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        MultiStreamModuleHint(*args, **kwargs)


@pytest.mark.parametrize(
    ("hint", "tree"),
    [
        (MultiStreamModuleHint(1), 1),
        (MultiStreamModuleHint(None), None),
        (MultiStreamModuleHint((0, {"y": 0})), (0, {"y": 0})),
        (MultiStreamModuleHint(0, 1), (0, 1)),
        (MultiStreamModuleHint(y1=0, y2=None), {"y1": 0, "y2": None}),
    ],
)
def test_as_an_output_it_is_one_tree(hint, tree):
    assert hint.as_output() == tree


@pytest.mark.parametrize("hint", [MultiStreamModuleHint(), MultiStreamModuleHint(0, y=0)])
def test_as_an_output_it_has_one_kind_of_entry(hint):
    message = (
        f"output_concat_hint must have positional entries (a value or tuple) or keyword entries "
        f"(a dict); got {hint!r}; give one kind"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        hint.as_output()
