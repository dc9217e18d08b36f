"""Linear layers computed as one product, in whatever order and on whatever thread."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref

import pytest
import torch
from torch import nn

from corestream.nn import ConcatLinear
from tests.unit.nn.native import assert_close, native


@pytest.fixture
def linears():
    return [nn.Linear(8, 8), nn.Linear(8, 4, bias=False), nn.Linear(8, 6)]


@pytest.fixture
def members(linears):
    return ConcatLinear.from_modules(linears)


def _casts(mode):
    return isinstance(mode, torch.autocast)


def product_of(members):
    return members[0]._store.group._slot.product


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_any_order(linears, members, order, mode):
    with mode():
        x = torch.randn(2, 5, 8)
        for number in order:
            actual = members[number](x)
            assert actual.is_contiguous()
            assert_close(actual, native(linears[number], x))
        assert product_of(members) is None


def test_one_product_serves_all(members):
    x = torch.randn(3, 8)
    with torch.no_grad():
        members[1](x)
        product = product_of(members)
        members[0](x)
        assert product_of(members) is product
        members[0](x)  # again: nothing is left for it
        assert product_of(members) is not product


def test_inputs_that_alternate_or_change(linears, members):
    first, second = torch.randn(3, 8), torch.randn(4, 8)
    with torch.no_grad():
        for x in (first, second, first):
            assert_close(members[0](x), native(linears[0], x))
        first.add_(1)
        assert_close(members[1](first), native(linears[1], first))
        assert_close(members[1](first[:2]), native(linears[1], first[:2]))
        assert_close(members[2](first.clone()), native(linears[2], first))


def test_writing_to_one_output_leaves_the_others(linears, members):
    x = torch.randn(3, 8)
    with torch.no_grad():
        members[0](x).fill_(9)
        assert_close(members[1](x), native(linears[1], x))


def test_nothing_is_kept_alive(members):
    x = torch.randn(3, 8)
    with torch.no_grad():
        alive = weakref.ref(members[0](x))
        assert alive() is None
        part = weakref.ref(next(iter(product_of(members).parts.values())))
        assert part() is not None
        del x
        gc.collect()
        assert part() is None


def test_each_thread_has_its_own(linears, members):
    x = torch.randn(3, 8)
    both_began = threading.Barrier(4)
    failures = []

    def work(number):
        try:
            own = x if number % 2 else torch.randn(5, 8)
            both_began.wait()
            for _ in range(50):
                for member, linear in zip(members, linears, strict=True):
                    with torch.no_grad():
                        torch.testing.assert_close(member(own), linear(own), rtol=1e-4, atol=1e-4)
        except BaseException as error:  # noqa: BLE001 -- told by the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_gradients_flow(linears, members):
    inputs = [torch.randn(3, 8).requires_grad_()]
    inputs.append(inputs[0].detach().clone().requires_grad_())
    sum(member(inputs[0]).sum() for member in members).backward()
    sum(linear(inputs[1]).sum() for linear in linears).backward()
    assert_close(inputs[0].grad, inputs[1].grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(linears, dtype):
    members = ConcatLinear.from_modules(linears, dtype=dtype)
    x = torch.randn(3, 8)
    with torch.no_grad():
        for member, linear in zip(members, linears, strict=True):
            assert_close(member(x.to(dtype)).float(), native(linear, x), tolerance=3e-2)
        for mode in (torch.no_grad(), torch.autocast("cpu", dtype)):
            with mode:
                outputs = [member(x) for member in members]
            assert product_of(members) is None
            assert {y.dtype for y in outputs} == {dtype if _casts(mode) else x.dtype}


def test_loading_between_two_siblings_is_seen(linears, members):
    x, other = torch.randn(3, 8), nn.Linear(8, 6)
    with torch.no_grad():
        members[0](x)
        members[2].load_state_dict(other.state_dict())
        assert_close(members[2](x), native(other, x))
        assert_close(members[1](x), native(linears[1], x))


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ([nn.Linear(4, 4)], "fewer than two"),
        ([nn.Linear(4, 4), nn.Linear(5, 4)], "differ in input features"),
        ([nn.Linear(4, 4), nn.Linear(4, 4).bfloat16()], "differ in input features or dtype"),
        ([nn.Linear(4, 4), nn.Conv2d(4, 4, 1)], "no nn.Linear"),
        ([nn.Linear(4, 4)] * 2, "one is there twice"),
    ],
)
def test_what_cannot_be_one_product_is_refused(modules, reason):
    with pytest.raises(ValueError, match=reason):
        ConcatLinear.from_modules(modules)
