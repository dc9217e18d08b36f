"""What a contender's process does when it is asked: prepare, and bear a load."""

from __future__ import annotations

import dataclasses
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from corestream.bench.plan import STOCK
from corestream.bench.subject import (
    NoBatchError,
    StockSubject,
    Subject,
    Tell,
    computed_in,
    fingerprint,
    fitting,
    make_subject,
    sized,
)
from corestream.errors import CorestreamWarning
from corestream.lowering.named_model import NamedModel, load_model
from corestream.measure.input_text import load_inputs
from corestream.measure.inputs import ModelInputs
from corestream.measure.named import one_line
from corestream.measure.numerics import Difference, compare
from corestream.measure.process import MisuseError

_EXPECTED = "expected.pt"


class Contestant:
    """Holds the subject between the turns of its process.

    Not thread-safe: the process's main loop owns it.
    """

    def __init__(self) -> None:
        self._subject: Subject | None = None
        self._call_s = 0.0

    def prepare(
        self,
        tell: Tell,
        *,
        model: str,
        inputs: list[str],
        contender: dict[str, Any],
        plan: dict[str, Any],
        options: dict[str, Any],
        folder: str,
    ) -> dict[str, Any]:
        """Loads and lowers the model, and compares its answers with stock's.

        Args:
            tell: Takes what is being done.
            model: As the user named it.
            inputs: The same.
            contender: Of the plan.
            plan: Of the mode.
            options: What the user asked for.
            folder: Where stock leaves its answer for the others.

        Returns:
            What is worth reporting; {"unfit": why} if the mode needs other inputs.

        Raises:
            MisuseError: There is no such model, or the inputs do not fit.
        """
        start = time.perf_counter()
        tell("loading the model")
        try:
            named = load_model(model, seed=options["seed"])
            example = sized(load_inputs(inputs, seed=options["seed"]), plan)
        except NoBatchError as error:
            return {"unfit": str(error)}
        except (ValueError, FileNotFoundError) as error:
            raise MisuseError(str(error)) from error
        weights = fingerprint(named)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CorestreamWarning)
            self._subject = make_subject(
                contender, plan=plan, options=options, named=named, inputs=example, tell=tell
            )
            tell("comparing the answers")
            difference = self._compare(
                named, example, is_first=contender["name"] == STOCK, options=options, folder=folder
            )
        notes = [str(one.message) for one in caught if one.category is CorestreamWarning]
        return {
            "setup_s": time.perf_counter() - start,
            "kind": named.describe(),
            "batch_size": example.batch_size(),
            "weights": weights,
            "difference": difference and dataclasses.asdict(difference),
            "call_s": self._call_s,
            "notes": list(dict.fromkeys(notes)),
            **self._subject.facts,
        }

    def _compare(
        self,
        named: NamedModel,
        inputs: ModelInputs,
        *,
        is_first: bool,
        options: dict[str, Any],
        folder: str,
    ) -> Difference | None:
        """How far the worst answer is from stock's; stock leaves its own for the others."""
        subject, path = self._subject, Path(folder) / _EXPECTED
        if subject is None:
            raise MisuseError("a model must be prepared; got none; call prepare first")
        start = time.perf_counter()
        with fitting(inputs) if isinstance(subject, StockSubject) else nullcontext():
            answers = subject.answers()
        self._call_s = time.perf_counter() - start
        if is_first:
            _save(answers[0], path)
            return None
        expected = torch.load(path, weights_only=False)  # written by our own stock process
        dtype = computed_in(named, expected, inputs.tensors(), subject.precision() or [])
        return max(
            (
                compare(answer, expected, dtype=dtype, tolerance=options["tolerance"])
                for answer in answers
            ),
            key=lambda difference: (not difference.is_within, difference.error),
        )

    def load(
        self,
        tell: Tell,
        *,
        users: int | None,
        rate_per_s: float | None,
        seconds: float,
        threads: int,
        seed: int,
        timeout_s: float,
    ) -> dict[str, Any]:
        """Bears a load.

        Args:
            tell: Takes what is being done.
            users: Users of a closed loop; None: an open one.
            rate_per_s: Requests per second of an open loop.
            seconds: How long.
            threads: How many threads answer an open loop, where streams do not.
            seed: Of the arrivals.
            timeout_s: When a request without an answer has failed.

        Returns:
            The fields of a LoadResult, with the error as text.
        """
        if self._subject is None:
            raise MisuseError("a model must be prepared; got none; call prepare first")
        if users is not None:
            result = self._subject.closed(users=users, seconds=seconds, timeout_s=timeout_s)
        else:
            result = self._subject.open(
                rate_per_s=rate_per_s or 0.0,
                seconds=seconds,
                threads=threads,
                seed=seed,
                timeout_s=timeout_s,
            )
        error = None if result.error is None else one_line(result.error)
        return {**dataclasses.asdict(dataclasses.replace(result, error=None)), "error": error}


def _save(answer: Any, path: Path) -> None:
    try:
        torch.save(answer, path)
    except Exception as error:
        raise MisuseError(
            f"model must return what torch.save can write, to be compared; got "
            f"{type(answer).__name__}: {one_line(error)}"
        ) from error
