"""`Future` among the standard library's: `concurrent.futures.wait`, `as_completed`, asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures as standard
import threading

import pytest
import torch

import corestream
from corestream import TaskExecutor
from tests.unit.runtime.gate import Gate
from tests.unit.runtime.proc import DEADLINE_S


@pytest.fixture
def executor(pair):
    with TaskExecutor(pair, 2) as running:
        yield running


def fail(error):
    raise error


def test_wait_for_all(executor):
    futures = [executor.submit(pow, number, 2) for number in range(100)]
    done, not_done = standard.wait(futures, timeout=DEADLINE_S)
    assert (done, not_done) == (set(futures), set())


def test_wait_for_all_times_out(executor):
    with Gate(executor) as gate:
        future = executor.submit(max, 1, 2)
        assert future.get() == 2
        done, not_done = standard.wait([gate.future, future], timeout=0.01)
        assert (done, not_done) == ({future}, {gate.future})


def test_wait_for_the_first(executor):
    with Gate(executor) as first, Gate(executor) as second:
        waiter = threading.Thread(target=second.open)
        waiter.start()
        done, not_done = standard.wait(
            [first.future, second.future], DEADLINE_S, standard.FIRST_COMPLETED
        )
        waiter.join()
        assert (done, not_done) == ({second.future}, {first.future})


def test_wait_for_the_first_exception(executor):
    with Gate(executor) as gate:
        failing = executor.submit(fail, KeyError("k"))
        futures = [gate.future, executor.submit(max, 1, 2), failing]
        done, not_done = standard.wait(futures, DEADLINE_S, standard.FIRST_EXCEPTION)
        assert failing in done
        assert gate.future in not_done


def test_wait_with_cancelled_ones(executor):
    with Gate(executor) as one, Gate(executor) as other:
        futures = [executor.submit(int) for _ in range(3)]
        canceller = threading.Thread(target=futures[1].cancel)
        canceller.start()
        done, _ = standard.wait(futures, DEADLINE_S, standard.FIRST_COMPLETED)
        canceller.join()
        assert done == {futures[1]}
        one.open()
        other.open()
        assert standard.wait(futures, DEADLINE_S).done == set(futures)


def test_as_completed(executor):
    with Gate(executor) as gate:
        futures = [executor.submit(pow, number, 2) for number in range(20)]
        finished = standard.as_completed([gate.future, *futures], timeout=DEADLINE_S)
        first = [next(finished) for _ in futures]
        assert set(first) == set(futures)
        gate.open()
        assert list(finished) == [gate.future]


def test_many_threads_wait_for_the_same_futures(executor):
    with Gate(executor) as gate:
        futures = [executor.submit(pow, number, 2) for number in range(10)]
        ready = threading.Barrier(5)
        found = []

        def wait():
            ready.wait(DEADLINE_S)
            found.append(standard.wait([*futures, gate.future], DEADLINE_S).not_done)

        waiters = [threading.Thread(target=wait) for _ in range(4)]
        for waiter in waiters:
            waiter.start()
        ready.wait(DEADLINE_S)
        gate.open()
        for waiter in waiters:
            waiter.join()
        assert found == [set()] * 4


def test_futures_of_both_kinds_together(executor):
    with standard.ThreadPoolExecutor(1) as threads:
        futures = [threads.submit(max, 1, 2), executor.submit(max, 3, 4)]
        assert standard.wait(futures, DEADLINE_S).done == set(futures)


def test_await(executor):
    async def body():
        assert await executor.submit(max, 1, 2) == 2
        with pytest.raises(KeyError, match="k"):
            await executor.submit(fail, KeyError("k"))
        return await asyncio.wrap_future(executor.submit(max, 3, 4))

    assert asyncio.run(body()) == 4


def test_await_leaves_the_loop_free(executor):
    async def body():
        gate = Gate(executor)

        async def open_from_the_loop():
            gate.open()

        await asyncio.gather(gate.future, open_from_the_loop())

    asyncio.run(body())


def test_gather_many(executor):
    module = torch.jit.trace(torch.nn.ReLU(), torch.ones(1))
    task = corestream.Task(module, executor)

    async def one(number):
        return (await task(torch.tensor([float(number)]))).item()

    async def body():
        return await asyncio.gather(*(one(number) for number in range(-100, 100)))

    assert asyncio.run(body()) == [float(max(number, 0)) for number in range(-100, 100)]


def test_cancelled_in_asyncio_while_queued(executor):
    async def body():
        with Gate(executor), Gate(executor):
            future = executor.submit(int)
            awaiting = asyncio.ensure_future(asyncio.wrap_future(future))
            await asyncio.sleep(0)
            awaiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await awaiting
            await asyncio.sleep(0)  # asyncio tells the future in the loop's next round
            assert future.cancelled()

    asyncio.run(body())


def test_cancelled_in_asyncio_while_running(executor):
    async def body():
        with Gate(executor) as gate:

            async def wait():
                return await gate.future

            awaiting = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            awaiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await awaiting
            assert gate.future.running()
        assert gate.future.get(DEADLINE_S) is None

    asyncio.run(body())


def test_cancelled_here_raises_in_asyncio(executor):
    async def body():
        with Gate(executor), Gate(executor):
            future = executor.submit(int)
            awaiting = asyncio.ensure_future(asyncio.wrap_future(future))
            await asyncio.sleep(0)
            assert future.cancel()
            with pytest.raises(asyncio.CancelledError):
                await awaiting

    asyncio.run(body())
