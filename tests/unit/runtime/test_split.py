"""Arguments are cut by hint, or every tensor along dim 0, and whatever does not fit is refused."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest
import torch

from corestream import MultiStreamModuleHint as Hint
from corestream.runtime.split import part_lengths, split_arguments
from tests.helpers import assert_outputs_match


class Pair(NamedTuple):
    left: Any
    right: Any


def rows(count: int, *, start: int = 0) -> torch.Tensor:
    return torch.arange(start, start + count * 2.0).view(count, 2)


def split(*args: Any, hint: Hint | None = None, num_parts: int = 2, **kwargs: Any) -> list[Any]:
    return split_arguments((args, kwargs), hint=hint, num_parts=num_parts)


@pytest.mark.parametrize(
    ("size", "num_parts", "lengths"),
    [
        (4, 3, [2, 1, 1]),
        (5, 2, [3, 2]),
        (2, 3, [1, 1]),
        (6, 3, [2, 2, 2]),
        (7, 1, [7]),
        (0, 3, [0]),
        (1, 5, [1]),
    ],
)
def test_the_first_parts_are_one_larger(size, num_parts, lengths):
    assert part_lengths(size, num_parts=num_parts) == lengths


def test_without_hint_every_tensor_is_cut_along_dim_0_also_in_containers():
    x, mask, nested = rows(3), torch.tensor([1, 2, 3]), rows(3, start=50)
    parts = split(x, [mask, {"k": (nested,)}], pair=Pair(x, mask))
    for part, (first, last) in zip(parts, [(0, 2), (2, 3)], strict=True):
        expected = (
            (x[first:last], [mask[first:last], {"k": (nested[first:last],)}]),
            {"pair": Pair(x[first:last], mask[first:last])},
        )
        assert_outputs_match(part, expected)


def test_parts_are_views():
    x = rows(3)
    (((first,), _), ((last,), _)) = split(x)
    assert first.data_ptr() == x.data_ptr()
    assert last.data_ptr() == x[2].data_ptr()


def test_what_is_no_tensor_or_has_no_dim_goes_whole_to_every_part():
    scale, config, nothing = torch.tensor(2.0), object(), {"options": [1, "text"]}
    parts = split(rows(2), scale, config, nothing, flag=True, missing=None)
    assert len(parts) == 2
    for (_, *others), kwargs in parts:
        assert others[0] is scale
        assert others[1] is config
        assert others[2] is nothing
        assert kwargs == {"flag": True, "missing": None}


def test_arguments_beyond_the_hint_go_whole_to_every_part():
    x, table = rows(2), rows(7)
    for args, kwargs in split(x, table, bias=table, hint=Hint(0)):
        assert args[0].shape == (1, 2)
        assert args[1] is table
        assert kwargs["bias"] is table


def test_entries_beyond_a_container_s_hint_go_whole_to_every_part():
    table = rows(7)
    for (items, named), _ in split(
        [rows(2), table], {"x": rows(2), "table": table}, hint=Hint([0], {"x": 0})
    ):
        assert (len(items[0]), items[1] is table) == (1, True)
        assert (len(named["x"]), named["table"] is table) == (1, True)


def test_keywords_are_hinted_by_name_in_any_order():
    x, mask = rows(2), rows(2, start=10)
    parts = split(b=mask, a=x, hint=Hint(a=0, b=None))
    assert [kwargs["a"].tolist() for _, kwargs in parts] == [x[:1].tolist(), x[1:].tolist()]
    assert all(kwargs["b"] is mask for _, kwargs in parts)


@pytest.mark.parametrize("dim", [1, -1])
def test_other_dims_are_cut(dim):
    x = torch.arange(10).view(2, 5)
    parts = split(x, hint=Hint(dim))
    assert [args[0].tolist() for args, _ in parts] == [x[:, :3].tolist(), x[:, 3:].tolist()]


def test_each_leaf_may_have_its_own_dim():
    x, y = torch.zeros(2, 3), torch.zeros(3, 2)
    parts = split((x, y), hint=Hint((1, 0)))
    assert [(a.shape, b.shape) for ((a, b),), _ in parts] == [((2, 2), (2, 2)), ((2, 1), (1, 2))]


def test_an_int_at_a_container_holds_for_every_tensor_in_it():
    parts = split([rows(2), (rows(2), None)], hint=Hint(0))
    assert [(len(a), len(b), c) for ([a, (b, c)],), _ in parts] == [(1, 1, None), (1, 1, None)]


def test_with_none_only_nothing_is_cut_and_the_arguments_are_the_callers():
    x, items = rows(4), [rows(4)]
    (((first, second), kwargs),) = split(x, items, k=x, hint=Hint(None, [None], k=None))
    assert first is x
    assert second is items
    assert kwargs["k"] is x


@pytest.mark.parametrize("num_parts", [1, 3])
@pytest.mark.parametrize("size", [0, 1])
def test_one_part_gets_the_callers_own_arguments(size, num_parts):
    x = rows(size)
    (((only,), _),) = split(x, num_parts=num_parts)
    assert only is x


def test_containers_without_tensors_are_not_copied():
    options = {"names": ["a", "b"]}
    assert all(args[1] is options for args, _ in split(rows(2), options))


@pytest.mark.parametrize(
    ("args", "kwargs", "hint", "message"),
    [
        (
            (rows(2), [rows(3)]),
            {},
            None,
            (
                "args[1][0] must have 2 items along dim 0, as args[0] has; got 3; give an "
                "input_split_hint with None for tensors that are not split"
            ),
        ),
        (
            (torch.zeros(2, 3),),
            {"mask": torch.zeros(2, 4)},
            Hint(1, mask=1),
            "kwargs['mask'] must have 3 items along dim 1, as args[0] has; got 4; give an",
        ),
        (
            (rows(2),),
            {},
            Hint(2),
            "the hint for args[0] must be a dim of a tensor of shape (2, 2); got 2; use None for",
        ),
        (
            (rows(2),),
            {},
            Hint(-3),
            "the hint for args[0] must be a dim of a tensor of shape (2, 2); got -3; use None for",
        ),
        (
            (torch.tensor(1.0),),
            {},
            Hint(0),
            "the hint for args[0] must be a dim of a tensor of shape (); got 0; use None for",
        ),
        (
            (rows(2),),
            {},
            Hint([0]),
            "the hint for args[0] must be an int or None, since it is a tensor; got [0]; make",
        ),
        (
            ([rows(2)],),
            {},
            Hint((0, 0)),
            "the hint for args[0] must name its entries [0]; got (0, 0), with [1] too many; make",
        ),
        (
            ({"x": rows(2)},),
            {},
            Hint({"x": 0, "y": 0}),
            (
                "the hint for args[0] must name its entries ['x']; got {'x': 0, 'y': 0}, "
                "with ['y'] too many; make"
            ),
        ),
        (
            (rows(2),),
            {},
            Hint(0, 0),
            (
                "input_split_hint must name arguments of the call; got MultiStreamModuleHint(0, 0) "
                "for 1 positional arguments and the keywords []; pass what the hint names"
            ),
        ),
        (
            (),
            {"y": rows(2), "a": 1},
            Hint(x=0),
            (
                "input_split_hint must name arguments of the call; got MultiStreamModuleHint(x=0) "
                "for 0 positional arguments and the keywords ['a', 'y']; pass"
            ),
        ),
    ],
)
def test_what_does_not_fit_is_a_value_error(args, kwargs, hint, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        split(*args, hint=hint, **kwargs)


@pytest.mark.parametrize(
    ("value", "hint", "path"),
    [(3, Hint(0), "args[0]"), ([rows(2), "text"], Hint([0, 0]), "args[0][1]")],
)
def test_what_cannot_be_cut_is_a_type_error(value, hint, path):
    message = f"{path} must be a tensor to be split by the hint 0; got "
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        split(value, hint=hint)


@pytest.mark.parametrize("hint", [None, Hint(0)], ids=["no hint", "hint"])
@pytest.mark.parametrize(
    "value", [torch.eye(4).to_sparse(), torch.eye(4).to_mkldnn()], ids=["sparse", "mkldnn"]
)
def test_only_dense_tensors_are_cut(value, hint):
    with pytest.raises(TypeError, match=r"^args\[0\] must be a dense tensor .*None for it$"):
        split_arguments(((value,), {}), hint=hint, num_parts=2)
    whole = split_arguments(((value, torch.ones(2)), {}), hint=Hint(None, 0), num_parts=2)
    assert [args[0] is value for args, _ in whole] == [True, True]


def test_a_container_hint_for_a_plain_value_is_a_type_error():
    message = "args[0] must be a tensor to be split by the hint [0]; got 5; use None in the hint"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        split(5, hint=Hint([0]))
