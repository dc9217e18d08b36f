"""Users in a closed loop: each waits for its answer and at once asks for the next sentence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

Encode = Callable[[torch.Tensor], torch.Tensor]


class Load:
    """What `users` threads saw that called `encode` for `seconds`.

    Attributes:
        latencies_s: Seconds of every request.
        seconds: From the first request to the last answer.
        answers: For each request index that was asked, the last answer to it.
    """

    def __init__(
        self, encode: Encode, requests: list[torch.Tensor], *, users: int, seconds: float
    ) -> None:
        self._encode = encode
        self._requests = requests
        self._barrier = threading.Barrier(users, action=self._start_clock)
        self._duration = seconds
        self.latencies_s: list[float] = []
        self.answers: dict[int, torch.Tensor] = {}
        # The threads end with the load, and with them the OpenMP teams that torch gave each.
        with ThreadPoolExecutor(users) as pool:
            first = [user * len(requests) // users for user in range(users)]
            for latencies in list(pool.map(self._run_user, first)):
                self.latencies_s += latencies
        self.seconds = time.perf_counter() - self._start

    def _start_clock(self) -> None:
        self._start = time.perf_counter()

    def _run_user(self, index: int) -> list[float]:
        latencies = []
        self._barrier.wait()
        end = self._start + self._duration
        # Grad mode belongs to a thread; a task takes over its submitter's.
        with torch.inference_mode():
            while (begin := time.perf_counter()) < end:
                self.answers[index] = self._encode(self._requests[index])
                latencies.append(time.perf_counter() - begin)
                index = (index + 1) % len(self._requests)
        return latencies
