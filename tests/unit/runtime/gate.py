"""Holds a stream, so that a test decides what is queued and what runs."""

from __future__ import annotations

import threading
from typing import Self

from corestream import TaskExecutor
from tests.unit.runtime.proc import DEADLINE_S


class Gate:
    """A task that has begun when the gate is made, and ends when `open` is called."""

    def __init__(self, executor: TaskExecutor) -> None:
        self._has_begun = threading.Event()
        self._may_end = threading.Event()
        self.thread_id = 0
        self.future = executor.submit(self._hold)
        assert self._has_begun.wait(DEADLINE_S), "no stream is free"

    def _hold(self) -> None:
        self.thread_id = threading.get_native_id()
        self._has_begun.set()
        assert self._may_end.wait(DEADLINE_S), "the test left the gate closed"

    def open(self) -> None:
        self._may_end.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.open()
