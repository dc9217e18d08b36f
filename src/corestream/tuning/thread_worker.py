"""The process in which thread counts are changed, so that they change nowhere else."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from corestream.lowering.named_model import load_model
from corestream.measure.input_text import load_inputs
from corestream.measure.process import MisuseError, serve

Tell = Callable[[str], object]

_LEAST_CALLS = 3


class Worker:
    """Holds what is timed between the turns.

    Not thread-safe: the process's main loop owns it.
    """

    def __init__(self) -> None:
        self._call: Callable[[], Any] = lambda: None

    def prepare(
        self,
        tell: Tell,
        *,
        model: str | None,
        inputs: list[str],
        op: str,
        size: int,
    ) -> dict[str, Any]:
        """Makes what is timed.

        Args:
            tell: Takes what is being done.
            model: As the user named it; None: an operation.
            inputs: The same.
            op: The operation.
            size: Rows of its matrices.

        Returns:
            What it is called, and how many threads torch takes of itself.

        Raises:
            MisuseError: There is no such model, or the inputs do not fit.
        """
        tell("loading")
        if model is None:
            self._call, subject = _operation(op, size), f"{op} of {size} × {size}, float32"
        else:
            self._call, subject = _model_call(model, inputs), f"{model} with {' '.join(inputs)}"
        return {"subject": subject, "default_threads": torch.get_num_threads()}

    def time(self, tell: Tell, *, num_threads: int, seconds: float) -> float:
        """The median of the calls of a turn, in milliseconds.

        Args:
            tell: Takes what is being done.
            num_threads: Intra-op threads.
            seconds: How long the turn takes.
        """
        torch.set_num_threads(num_threads)
        samples: list[float] = []
        with torch.no_grad():
            self._call()  # makes the team
            end = time.perf_counter() + seconds
            while len(samples) < _LEAST_CALLS or time.perf_counter() < end:
                begin = time.perf_counter()
                self._call()
                samples.append(time.perf_counter() - begin)
        return 1e3 * statistics.median(samples)


def _operation(op: str, size: int) -> Callable[[], Any]:
    left, right = torch.randn(size, size), torch.randn(size, size)
    operations: dict[str, Callable[[], Any]] = {
        "matmul": lambda: torch.mm(left, right),
        "add": lambda: torch.add(left, right),
        "sigmoid": lambda: torch.sigmoid(left),
        "softmax": lambda: torch.softmax(left, dim=1),
    }
    return operations[op]


def _model_call(model: str, inputs: list[str]) -> Callable[[], Any]:
    try:
        call = load_model(model).as_callable()
        example = load_inputs(inputs)
        with torch.no_grad():
            example.call(call)
    except FileNotFoundError as error:
        raise MisuseError(str(error)) from error
    except Exception as error:
        raise MisuseError(f"model must run on the inputs; got {error}") from error
    return lambda: example.call(call)


def answer_parent() -> None:
    """Answers the parent until it closes the pipe."""
    worker = Worker()
    serve({"prepare": worker.prepare, "time": worker.time})
