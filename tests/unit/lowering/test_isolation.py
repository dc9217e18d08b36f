"""The thread that lowers, and the one that waits for it."""

from __future__ import annotations

from threading import Thread

import pytest

from corestream.lowering.isolation import IsolatedCall, check_is_not_ticking

FOR_EVER = 1e6


def test_a_function_goes_on_when_a_whole_tick_has_passed():
    events = []

    def function():
        for turn in range(3):
            events.append(("asks", turn))
            assert call.await_tick()
            events.append(("goes on", turn))
        return 5

    def tick():
        events.append("begins")
        events.append("ends")

    call = IsolatedCall(function)
    assert call.wait(tick, every_s=FOR_EVER) == 5
    assert events == [
        event
        for turn in range(3)
        for event in (("asks", turn), "begins", "ends", ("goes on", turn))
    ]


def test_a_tick_that_fails_lets_the_function_end():
    answers = []

    def function():
        answers.extend([call.await_tick(), call.await_tick()])

    def tick():
        raise KeyboardInterrupt

    call = IsolatedCall(function)
    with pytest.raises(KeyboardInterrupt):
        call.wait(tick, every_s=FOR_EVER)
    call.join()
    assert answers == [False, False]


def test_an_interruption_while_the_thread_starts_lets_the_function_end(monkeypatch):
    answers = []
    call = IsolatedCall(lambda: answers.append(call.await_tick()))

    def start():
        Thread.start(call)
        raise KeyboardInterrupt

    monkeypatch.setattr(call, "start", start)
    with pytest.raises(KeyboardInterrupt):
        call.wait(lambda: None, every_s=FOR_EVER)
    call.join()
    assert answers == [False]


def test_what_the_function_raises_comes_out():
    def function():
        call.await_tick()
        raise ValueError("as told")

    call = IsolatedCall(function)
    with pytest.raises(ValueError, match="as told"):
        call.wait(lambda: None, every_s=FOR_EVER)


def test_a_tick_knows_that_it_is_one():
    call = IsolatedCall(lambda: call.await_tick())
    with pytest.raises(RuntimeError, match="must not be called by its progress callback"):
        call.wait(check_is_not_ticking, every_s=FOR_EVER)
    call.join()
    check_is_not_ticking()
