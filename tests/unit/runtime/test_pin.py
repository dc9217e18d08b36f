"""`pin`: teams on their cores inside, everything as it was outside. Masks are the kernel's."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
import torch

from corestream import CPUPool, CPUSet, _native, pin
from corestream.cpu.override import override_allowed
from tests.unit.runtime.operators import observed
from tests.unit.runtime.proc import (
    DEADLINE_S,
    cpus_of,
    name_of,
    on_new_thread,
    simulated_cpus,
    team_of_this_thread,
    thread_ids,
)

# Above ATen's grain size of 32768 elements, so that the operator runs on the whole team.
LARGE = 1 << 20


@pytest.fixture
def core_ids(pair) -> list[int]:
    return pair.core_ids


class Doubling(torch.nn.Module):
    def forward(self, x):
        return torch.ops.corestream_tests.observe(x, 0) * 2


def seen_inside() -> tuple[list[list[int]], int]:
    """Masks of the calling thread's team, member 0 first, and torch's thread count."""
    return [cpus_of(member) for member in team_of_this_thread()], torch.get_num_threads()


def pinned_to(core_ids: list[int]) -> tuple[list[list[int]], int]:
    return [[core_id] for core_id in core_ids], len(core_ids)


@pytest.mark.parametrize("order", [[0, 1], [1, 0], [0], [1]])
def test_thread_i_is_on_core_i(core_ids, order):
    chosen = [core_ids[position] for position in order]

    def body():
        before = seen_inside()
        with pin(CPUPool(chosen)) as pool:
            assert pool == CPUPool(chosen)
            assert seen_inside() == pinned_to(chosen)
        assert seen_inside() == before

    on_new_thread(body)


def test_torch_operators_run_on_the_pinned_team(core_ids):
    def body():
        before = thread_ids()
        x = torch.ones(LARGE)
        with pin(CPUPool(core_ids)):
            x.add_(1)
            started = thread_ids() - before
            team = team_of_this_thread()
            assert sorted(cpus_of(thread) for thread in started) == [[core_ids[1]]]
            assert started == set(team[1:])
        assert x[-1] == 2

    torch.ones(1)
    with pin(CPUPool(core_ids[:1])):  # what torch loads on first use is loaded
        torch.ones(LARGE).add_(1)
    on_new_thread(body)


def test_pools_larger_than_this_machine():
    def body():
        with pin(CPUPool([5, 3, 0, 4])):
            inside = [_native.core.get_affinity(member) for member in team_of_this_thread()]
            assert inside == [[5], [3], [0], [4]]
            assert torch.get_num_threads() == 4
        after = {tuple(_native.core.get_affinity(member)) for member in team_of_this_thread()}
        assert after == {(0, 1, 2, 3, 4, 5)}

    with simulated_cpus(6):
        on_new_thread(body)


def as_function(inside):
    def double(x):
        inside.append(seen_inside())
        return x * 2

    return double


def test_decorates_a_function(core_ids):
    inside = []
    double = pin(CPUPool(core_ids))(as_function(inside))
    before = seen_inside()
    assert double.__name__ == "double"
    assert inside == []
    assert torch.equal(double(x=torch.ones(3)), torch.full((3,), 2.0))
    assert inside == [pinned_to(core_ids)]
    assert seen_inside() == before


@torch.jit.script
def scripted_double(x):
    return torch.ops.corestream_tests.observe(x, 0) * 2


@pytest.mark.parametrize(
    "make",
    [
        Doubling,
        lambda: torch.jit.script(Doubling()),
        lambda: torch.jit.trace(Doubling(), torch.ones(2)),
        lambda: scripted_double,
    ],
    ids=["module", "scripted module", "traced module", "scripted function"],
)
def test_decorates_modules_and_scripted_functions(core_ids, make):
    pinned = pin(CPUPool(core_ids))(make())
    inside = []
    before = seen_inside()
    with observed(lambda _place: inside.append(seen_inside())):
        assert torch.equal(pinned(torch.ones(3)), torch.full((3,), 2.0))
    assert inside == [pinned_to(core_ids)]
    assert seen_inside() == before


def test_exception_restores(core_ids):
    before = seen_inside()

    def fail_inside():
        with pin(CPUPool(core_ids[1:])):
            assert seen_inside() == pinned_to(core_ids[1:])
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail_inside()
    assert seen_inside() == before


@pytest.mark.parametrize(("outer", "inner"), [([1, 0], [0]), ([1], [0, 1]), ([0, 1], [1, 0])])
def test_nested(core_ids, outer, inner):
    outer = [core_ids[position] for position in outer]
    inner = [core_ids[position] for position in inner]

    def body():
        before = seen_inside()
        with pin(CPUPool(outer)):
            for _ in range(3):
                with pin(CPUPool(inner)):
                    assert seen_inside() == pinned_to(inner)
                assert seen_inside() == pinned_to(outer)
        assert seen_inside() == before

    on_new_thread(body)


def test_recursive_function(core_ids):
    depths = []

    @pin(CPUPool(core_ids))
    def descend(depth):
        if depth > 0:
            descend(depth - 1)
        depths.append(seen_inside())

    before = seen_inside()
    descend(3)
    assert depths == [pinned_to(core_ids)] * 4
    assert seen_inside() == before


def test_one_object_entered_again_and_again(core_ids):
    scope = pin(CPUPool(core_ids[1:]))
    before = seen_inside()
    with scope, scope:
        assert seen_inside() == pinned_to(core_ids[1:])
    assert seen_inside() == before
    with scope:
        assert seen_inside() == pinned_to(core_ids[1:])
    assert seen_inside() == before


def test_several_threads_at_once(core_ids):
    scope = pin(CPUPool(core_ids))
    pools = [core_ids, core_ids[::-1], core_ids[:1], core_ids[1:]]
    barrier = threading.Barrier(len(pools))
    found = {}

    def work(number):
        before = seen_inside()
        own = scope if number == 0 else pin(CPUPool(pools[number]))
        barrier.wait(DEADLINE_S)
        with own:
            barrier.wait(DEADLINE_S)
            inside = seen_inside()
            barrier.wait(DEADLINE_S)
        barrier.wait(DEADLINE_S)
        found[number] = inside, seen_inside() == before

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(pools))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: (pinned_to(pool), True) for number, pool in enumerate(pools)}


def test_other_threads_keep_their_masks(core_ids):
    main = os.getpid()
    before = cpus_of(main)
    threads = torch.get_num_threads()
    streams_before = [name for name in map(name_of, thread_ids()) if name.startswith("cs-")]

    def body():
        with pin(CPUPool(core_ids[:1])):
            assert cpus_of(threading.get_native_id()) == core_ids[:1]
            assert cpus_of(main) == before

    on_new_thread(body)
    assert cpus_of(main) == before
    assert torch.get_num_threads() == threads
    assert on_new_thread(torch.get_num_threads) == threads
    assert streams_before == []


def test_new_thread_afterwards_has_the_original_mask(core_ids):
    before = cpus_of(os.getpid())
    with pin(CPUPool(core_ids)):
        pass
    assert on_new_thread(lambda: cpus_of(threading.get_native_id())) == before


@pytest.mark.parametrize("pool", [(0,), [0], "0", 0, None], ids=repr)
def test_pool_must_be_a_pool(pool):
    with pytest.raises(TypeError, match=r"pool must be a CPUPool; got .*write CPUPool\("):
        pin(pool)


async def coroutine():
    pass


def generator():
    yield


async def async_generator():
    yield


@pytest.mark.parametrize("function", [coroutine, generator, async_generator])
def test_functions_that_outlive_their_call_are_refused(function):
    with pytest.raises(TypeError, match="function must run to its end when called"):
        pin(CPUPool())(function)


def test_only_callables_are_decorated():
    with pytest.raises(TypeError, match="function must be callable; got 3"):
        pin(CPUPool())(3)


def test_left_out_of_order_ends_with_the_scopes_inside(core_ids):
    before = seen_inside()
    outer, inner = pin(CPUPool(core_ids)), pin(CPUPool(core_ids[1:]))
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError, match=r"innermost first.*ends with those inside"):
        outer.__exit__(None, None, None)
    assert seen_inside() == pinned_to(core_ids[1:])
    inner.__exit__(None, None, None)
    assert seen_inside() == before
    with pytest.raises(RuntimeError, match="by the thread that entered it, once"):
        outer.__exit__(None, None, None)


def test_left_by_another_thread(core_ids):
    before = seen_inside()
    scope = pin(CPUPool(core_ids[1:]))
    with scope:
        with pytest.raises(RuntimeError, match="must be left by the thread that entered it"):
            on_new_thread(lambda: scope.__exit__(None, None, None))
        assert seen_inside() == pinned_to(core_ids[1:])
    assert seen_inside() == before


def test_coroutines_that_take_turns_leave_nothing_pinned(core_ids):
    async def hold(core_id, *, entered, may_leave):
        with pin(CPUPool([core_id])):
            entered.set()
            await may_leave.wait()

    async def interleave():
        entered, may_leave = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(hold(core_ids[0], entered=entered, may_leave=may_leave))
        await entered.wait()
        second_entered, second_may_leave = asyncio.Event(), asyncio.Event()
        second = asyncio.create_task(
            hold(core_ids[1], entered=second_entered, may_leave=second_may_leave)
        )
        await second_entered.wait()
        may_leave.set()
        with pytest.raises(RuntimeError, match="keep `await` and `yield` out of"):
            await first
        second_may_leave.set()
        await second

    before = seen_inside()
    asyncio.run(interleave())
    assert seen_inside() == before


@pytest.mark.parametrize("position", [0, 1], ids=["first", "last"])
def test_refused_core(core_ids, position):
    missing = 1000
    chosen = core_ids[:1]
    chosen.insert(position, missing)
    before = seen_inside()
    with override_allowed(CPUSet(chosen)):
        pool = CPUPool(chosen)
    with pytest.raises(OSError, match=rf"CPUs {missing}\b") as caught, pin(pool):
        pytest.fail("entered")
    assert caught.value.errno == 22
    assert seen_inside() == before
    assert _native.core.get_affinity(0) == cpus_of(os.getpid())


def test_refused_core_in_a_nested_pin(core_ids):
    with override_allowed(CPUSet([*core_ids, 1000])):
        pool = CPUPool([core_ids[0], 1000])
    with pin(CPUPool(core_ids)):
        with pytest.raises(OSError, match="1000"), pin(pool):
            pytest.fail("entered")
        assert seen_inside() == pinned_to(core_ids)
