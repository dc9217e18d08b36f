"""One way to run a model, in the process that measures it: its answers, and what loads it bears."""

from __future__ import annotations

import concurrent.futures
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from corestream.bench.plan import DEFAULT_BATCH_SIZE, OURS
from corestream.cpu.pool import CPUPool
from corestream.lowering import lower
from corestream.lowering.named_model import NamedModel
from corestream.lowering.probes import lowest_precision
from corestream.measure.inputs import ModelInputs
from corestream.measure.load import (
    FutureLike,
    LoadResult,
    as_submit,
    closed_loop,
    open_loop,
    open_loop_of_threads,
)
from corestream.measure.named import one_line
from corestream.measure.process import MisuseError
from corestream.runtime.auto import choose_streams
from corestream.runtime.executor import TaskExecutor
from corestream.runtime.streams import MultiStreamModule
from corestream.runtime.task import Task

# The requests that wait for stock's threads have none either.
_NO_LIMIT = 1 << 30

Tell = Callable[[str], None]


class Subject:
    """What a contender's process runs.

    Attributes:
        facts: What is worth reporting, by name; values for JSON.

    Not thread-safe: one load at a time.
    """

    facts: dict[str, Any]

    def answers(self) -> list[Any]:
        """Some answers to the inputs, from everything that answers."""
        raise NotImplementedError

    def precision(self) -> torch.dtype | None:
        """What it computes in beside what the model does."""
        return None

    def closed(self, *, users: int, seconds: float, timeout_s: float) -> LoadResult:
        """What so many users get in so many seconds."""
        raise NotImplementedError

    def open(
        self, *, rate_per_s: float, seconds: float, threads: int, seed: int, timeout_s: float
    ) -> LoadResult:
        """What requests get that arrive at a rate, answered by `threads` threads or the streams."""
        raise NotImplementedError


class StockSubject(Subject):
    """A model that is called as torch does it, on the threads of the users."""

    def __init__(self, call: Callable[..., Any], inputs: ModelInputs) -> None:
        self._call, self._inputs = call, inputs
        self.facts = {}

    def _answer(self) -> Any:
        with torch.inference_mode():
            return self._inputs.call(self._call)

    def answers(self) -> list[Any]:
        """One answer, from a thread that ends: its team must not idle beside the users'."""
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            return [executor.submit(self._answer).result()]

    def closed(self, *, users: int, seconds: float, timeout_s: float) -> LoadResult:
        """Each user's thread calls the model, as the threads of a web server do."""
        submit = as_submit(self._answer)
        return closed_loop(submit, num_users=users, duration_s=seconds, timeout_s=timeout_s)

    def open(
        self, *, rate_per_s: float, seconds: float, threads: int, seed: int, timeout_s: float
    ) -> LoadResult:
        """A pool of threads takes the requests in order."""
        return open_loop_of_threads(
            self._answer,
            num_threads=threads,
            rate_per_s=rate_per_s,
            duration_s=seconds,
            seed=seed,
        )


class StreamSubject(Subject):
    """A model on corestream's streams."""

    def __init__(
        self,
        start: Callable[..., FutureLike],
        inputs: ModelInputs,
        *,
        num_streams: int,
        lowered: Any,
    ) -> None:
        self._start, self._inputs, self._num_streams = start, inputs, num_streams
        self.facts = {"num_streams": num_streams}
        report = getattr(lowered, "report", None)
        self._dtype = None if report is None else report.chosen.dtype
        if report is not None:
            dtype = f", {self._dtype}" if self._dtype else ""
            self.facts |= {"lowered": f"{report.chosen.backend}{dtype}"}

    def _submit(self) -> FutureLike:
        with torch.inference_mode():  # a task runs under its submitter's modes
            return self._start(*self._inputs.args, **self._inputs.kwargs)

    def answers(self) -> list[Any]:
        """Enough of them at once that every stream gives one."""
        futures = [self._submit() for _ in range(2 * self._num_streams)]
        return [future.result(None) for future in futures]

    def precision(self) -> torch.dtype | None:
        """The dtype that the model was lowered to, if it is another."""
        return None if self._dtype is None else getattr(torch, self._dtype)

    def closed(self, *, users: int, seconds: float, timeout_s: float) -> LoadResult:
        """Each user waits for his request's future."""
        return closed_loop(self._submit, num_users=users, duration_s=seconds, timeout_s=timeout_s)

    def open(
        self, *, rate_per_s: float, seconds: float, threads: int, seed: int, timeout_s: float
    ) -> LoadResult:
        """The streams' queue takes the requests; `threads` is not for them."""
        return open_loop(
            self._submit,
            rate_per_s=rate_per_s,
            duration_s=seconds,
            seed=seed,
            max_in_flight=_NO_LIMIT,
            timeout_s=timeout_s,
        )


class NoBatchError(Exception):
    """A mode splits the batch, and the inputs have none."""


def sized(inputs: ModelInputs, plan: dict[str, Any]) -> ModelInputs:
    """The inputs of one call in a mode.

    Args:
        inputs: As the user gave them.
        plan: The mode's plan, as JSON has it.

    Raises:
        NoBatchError: The mode needs a batch.
    """
    present = inputs.batch_size()
    if present is None:
        if plan["mode"] == "realtime":
            return inputs  # a request is what the user says it is
        shapes = [tuple(tensor.shape) for tensor in inputs.tensors()]
        raise NoBatchError(
            f"inputs must have a batch, one size of dim 0 in all tensors, to be split over "
            f"streams; got {shapes}; use realtime mode, where a call is a request"
        )
    return inputs.with_batch(plan["batch_size"] or (present if present > 1 else DEFAULT_BATCH_SIZE))


def make_subject(
    contender: dict[str, Any],
    *,
    plan: dict[str, Any],
    options: dict[str, Any],
    named: NamedModel,
    inputs: ModelInputs,
    tell: Tell,
) -> Subject:
    """What a contender's process shall run.

    Args:
        contender: Of the plan, as JSON has it.
        plan: The mode's plan.
        options: What the user asked for.
        named: The model.
        inputs: Of one call.
        tell: Takes what is being done.

    Raises:
        MisuseError: The contender cannot run such a model.
        LoweringError: No backend could lower the model.
    """
    if contender["name"] == OURS:
        maker = _on_realtime_streams if plan["mode"] == "realtime" else _on_offline_streams
        return maker(plan, options, named=named, inputs=inputs, tell=tell)
    if contender["num_threads"] is not None:
        torch.set_num_threads(contender["num_threads"])
    if contender["name"] != "compile":
        return StockSubject(named.as_callable(), inputs)
    if not named.is_lowerable:
        raise MisuseError(
            f"also must not hold compile for a model that is compiled already; got "
            f"{named.describe()}; leave it out"
        )
    tell("torch.compile compiles the model")
    return StockSubject(torch.compile(named.source, dynamic=False), inputs)


def _on_offline_streams(
    plan: dict[str, Any],
    options: dict[str, Any],
    *,
    named: NamedModel,
    inputs: ModelInputs,
    tell: Tell,
) -> Subject:
    """The batch is split over the streams."""
    pool, lowering = CPUPool(plan["core_ids"]), _lowering_options(options)
    num_streams: int | str = plan["num_streams"] or "AUTO"
    model, example = named.source, inputs if named.is_lowerable else None
    if named.is_lowerable and lowering:
        if num_streams == "AUTO":
            choice = choose_streams(pool, model=model)
            pool, num_streams = choice.cpu_pool, choice.num_streams
        model, example = (
            lower(
                model,
                inputs,
                num_streams=int(num_streams),
                cpu_pool=pool,
                progress=lambda text, _: tell(f"lowering: {text}"),
                **lowering,
            ),
            None,
        )
    tell("starting the streams" if example is None else "lowering the model")
    streams = MultiStreamModule(model, num_streams, pool, example_inputs=example)
    with torch.inference_mode():
        streams.warm_up(*inputs.args, **inputs.kwargs)
    subject = StreamSubject(
        streams.forward_async,
        inputs,
        num_streams=streams.get_stream_number(),
        lowered=streams.model,
    )
    if streams.auto is not None:
        subject.facts["auto"] = f"{streams.auto.source}: {streams.auto.reason}"
    return subject


def _on_realtime_streams(
    plan: dict[str, Any],
    options: dict[str, Any],
    *,
    named: NamedModel,
    inputs: ModelInputs,
    tell: Tell,
) -> Subject:
    """Each request is run by one stream."""
    pool, num_streams = CPUPool(plan["core_ids"]), plan["num_streams"]
    model = named.source
    if named.kind == "lowered" and options["cores_per_stream"] is options["num_streams"] is None:
        # It was lowered for such streams, and for no others.
        every = CPUPool().core_ids
        num_streams = max(1, len(every) // model.team_size)
        pool = CPUPool(every[: num_streams * model.team_size])
    if named.is_lowerable:
        model = lower(
            model,
            inputs,
            num_streams=num_streams,
            cpu_pool=pool,
            progress=lambda text, _: tell(f"lowering: {text}"),
            **_lowering_options(options),
        )
    tell("starting the streams")
    task = Task(model, TaskExecutor(pool, num_streams))
    with torch.inference_mode():
        task.warm_up(*inputs.args, **inputs.kwargs)
    subject = StreamSubject(task, inputs, num_streams=num_streams, lowered=model)
    subject.facts |= {"num_cores": len(pool), "team_size": len(pool) // num_streams}
    return subject


def _lowering_options(options: dict[str, Any]) -> dict[str, Any]:
    """What `lower` takes of what the user asked for; empty if that is nothing special."""
    found: dict[str, Any] = {}
    if options["backend"] != "auto":
        found["backend"] = options["backend"]
    if options["dtype"] is not None:
        found["dtype"] = "auto" if options["dtype"] == "auto" else getattr(torch, options["dtype"])
    if options["tolerance"] is not None:
        found["tolerance"] = options["tolerance"]
    return found


@contextmanager
def fitting(inputs: ModelInputs) -> Iterator[None]:
    """A scope in which what the model raises is the inputs' fault.

    Args:
        inputs: Those of the call.

    Raises:
        MisuseError: In place of what was raised.
    """
    try:
        yield
    except Exception as error:
        shapes = [tuple(tensor.shape) for tensor in inputs.tensors()]
        names = f" and {', '.join(inputs.kwargs)} by name" if inputs.kwargs else ""
        raise MisuseError(
            f"inputs must fit the model; got {shapes}{names}, and the model raised "
            f"{one_line(error)}"
        ) from error


def fingerprint(named: NamedModel) -> int:
    """A number that two models with the same weights share; 0 for what shows none.

    Args:
        named: The model.
    """
    if not isinstance(named.source, torch.nn.Module):
        return 0
    checksum = 0
    for name, tensor in sorted(named.source.state_dict().items()):
        checksum = zlib.crc32(name.encode(), checksum)
        if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided:
            data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            checksum = zlib.crc32(data.numpy().data, checksum)
    return checksum


def computed_in(named: NamedModel, *sources: Any) -> torch.dtype:
    """The lowest precision of a model's weights and of dtypes and tensors; for the tolerance.

    Args:
        named: The model.
        *sources: Dtypes and tensors, however nested.
    """
    weights: list[torch.Tensor] = []
    if isinstance(named.source, torch.nn.Module):
        weights = list(named.source.state_dict().values())
    return lowest_precision(weights, *sources)
