"""`lower`: a model in, what streams run fastest out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corestream.cpu.pool import CPUPool
from corestream.errors import LoweringError
from corestream.runtime.auto import choose_streams
from corestream.runtime.executor import TaskExecutor, check_count
from corestream.runtime.model_facts import ModelFacts, facts_of_call
from corestream.runtime.split import part_lengths
from corestream.runtime.teams import release_idle_team

if TYPE_CHECKING:
    import torch
    from torch import nn

    from corestream.lowering.backend import Backend, LoweringRequest
    from corestream.lowering.model import LoweredModule
    from corestream.lowering.progress import Callback
    from corestream.measure.inputs import ModelInputs

BACKENDS = ("aotinductor", "torchscript", "eager")
_TICK_S = 0.25


@dataclass(frozen=True)
class Options:
    """What `lower` takes beside the model, the inputs and the streams.

    Attributes:
        backend: One of `BACKENDS`, or "auto".
        dtype: A dtype, None or "auto".
        dynamic_batch: Whether any size of dim 0 must work.
        tolerance: Limit of the numerical difference; None: what the dtype allows.
        cache: Whether compiled models may come from disk and go there, or the folder.
        progress: A callback; None: a bar on a terminal; False: nothing.
        is_timed: Time what can be used also where there is no choice.
    """

    backend: str = "auto"
    dtype: torch.dtype | str | None = None
    dynamic_batch: bool = True
    tolerance: float | None = None
    cache: bool | str | os.PathLike[str] = True
    progress: Callback | bool | None = None
    is_timed: bool = True


def lower(
    model: nn.Module,
    example_inputs: Any,
    *,
    backend: str = "auto",
    dtype: torch.dtype | str | None = None,
    team_size: int | None = None,
    num_streams: int | None = None,
    cpu_pool: CPUPool | None = None,
    dynamic_batch: bool = True,
    batch_sizes: Iterable[int] | None = None,
    tolerance: float | None = None,
    cache: bool | str | os.PathLike[str] = True,
    progress: Callback | bool | None = None,
) -> LoweredModule:
    """Turns a model into something that streams run without the GIL, as fast as can be had.

    Builds the model in each way that there is, compares its results with the model's own, measures
    what is right on streams of the wanted size, all busy at once, and keeps the fastest. The model
    is not changed; what is kept shares weights with it where they need no conversion.

    Args:
        model: An nn.Module in eval mode.
        example_inputs: A tensor, a tuple of positional arguments, a mapping of keyword arguments,
            or ``corestream.measure.ModelInputs`` for both, on the CPU; a whole batch, as it
            would be split over the streams.
        backend: "aotinductor", "torchscript", "eager", or "auto": try all of them.
        dtype: What to compute in, such as ``torch.bfloat16``; None: as the model does; "auto":
            also try those that this CPU has instructions for. Inputs and outputs keep the dtypes
            that they have in the model.
        team_size: Cores of a stream; None: the cores divided by ``num_streams``.
        num_streams: How many streams; None: as many as ``team_size`` leaves room for; neither
            given: as MultiStreamModule's "AUTO" for this model and example.
        cpu_pool: The cores; None: ``CPUPool()``.
        dynamic_batch: Any batch size gives right results; False: only ``batch_sizes``. Where the
            one ``backend`` that is asked for cannot leave the size open, the report says that
            others are refused; with "auto" the next backend has its turn.
        batch_sizes: Sizes of dim 0 that a stream gets, and that must be fast; None: those of
            the parts that the example is split into.
        tolerance: How far results may be from the model's, as ``corestream.measure.compare``
            measures it; None: what rounding in the dtype allows, and for a ``dtype`` that is given
            what the model itself loses in it (``corestream.measure.tolerance_in``).
        cache: Keep what AOTInductor compiled on disk, and take it from there; a path is the folder
            to use.
        progress: Called with what is about to be done and the share that is done, on the thread
            that called; a step begins when it has returned, so it must not wait for another
            thread that lowers. None: a bar on stderr if that is a terminal and lowering takes long;
            False: nothing.

    Returns:
        A module to give to MultiStreamModule or Task; its ``report`` says what was tried.

    Raises:
        TypeError: An argument is of another type.
        ValueError: An argument is out of range, or the model is in training mode.
        LoweringError: No backend could lower the model, with the reason of each; or the model
            does not run on the example.
        RuntimeError: It is called by the ``progress`` callback of another call.
        OSError: A core could not be had or a thread not made.

    Example:
        >>> import corestream, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU()).eval()
        >>> lowered = corestream.lower(model, torch.rand(4, 8), backend="torchscript")
        >>> streams = corestream.MultiStreamModule(lowered)
        >>> streams(torch.rand(5, 8)).shape
        torch.Size([5, 4])

    Thread-safe: one call lowers, others wait. Works on a thread that ends, which holds the GIL
    while Python compiles.
    """
    options = Options(backend, dtype, dynamic_batch, tolerance, cache, progress)
    inputs = check_arguments(model, example_inputs, options=options)
    pool = CPUPool() if cpu_pool is None else cpu_pool
    if not isinstance(pool, CPUPool):
        raise TypeError(f"cpu_pool must be a CPUPool; got {pool!r}; write CPUPool(core_ids)")
    if team_size is None and num_streams is None:
        choice = choose_streams(pool, model=model, count_facts=lambda: count_facts(model, inputs))
        pool, num_streams = choice.cpu_pool, choice.num_streams
    pool, num_streams = _streams(pool, team_size=team_size, num_streams=num_streams)
    sizes = _batch_sizes(inputs, batch_sizes, num_streams=num_streams, dynamic=dynamic_batch)
    release_idle_team()
    with TaskExecutor(pool, num_streams) as executor:
        return lower_on(executor, model=model, inputs=inputs, batch_sizes=sizes, options=options)


def lower_on(
    executor: TaskExecutor,
    *,
    model: nn.Module,
    inputs: ModelInputs,
    batch_sizes: tuple[int, ...],
    options: Options,
) -> LoweredModule:
    """Lowers for the streams of an executor, and measures on them. As :func:`lower` otherwise."""
    from corestream.lowering.backend import LoweringRequest
    from corestream.lowering.chooser import INTERRUPTED, Chooser, num_steps
    from corestream.lowering.isolation import IsolatedCall, check_is_not_ticking
    from corestream.lowering.progress import Progress

    check_is_not_ticking()
    team_sizes = sorted({stream.team_size for stream in executor.streams})
    notes = []
    if len(team_sizes) > 1:
        notes.append(
            f"the streams have {' and '.join(map(str, team_sizes))} cores; lowered for "
            f"{team_sizes[0]}: give them equal sizes"
        )
    request = LoweringRequest(
        model=model,
        inputs=inputs,
        dtype=None,
        team_size=team_sizes[0],
        num_streams=executor.num_streams,
        dynamic_batch=options.dynamic_batch and bool(batch_sizes),
        batch_sizes=batch_sizes,
    )
    backends, dtypes = _backends(options, model=model), _dtypes(options.dtype, request=request)
    progress = Progress(options.progress, num_steps=num_steps(len(backends) * len(dtypes)))

    def on_step(text: str) -> None:
        progress.step(text)
        if progress.has_callback and not call.await_tick():
            raise LoweringError(INTERRUPTED)

    chooser = Chooser(
        request,
        executor=executor,
        backends=backends,
        dtypes=dtypes,
        tolerance=options.tolerance,
        notes=notes,
        on_step=on_step,
        is_timed=options.is_timed,
    )
    call = IsolatedCall(chooser.choose)
    try:
        return call.wait(progress.tick, every_s=_TICK_S)
    finally:
        chooser.give_up()
        progress.close()


def check_arguments(model: Any, example_inputs: Any, *, options: Options) -> ModelInputs:
    """The inputs as such. Raises TypeError or ValueError unless all is as `lower` documents."""
    import torch

    from corestream.measure.inputs import ModelInputs

    if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"model must be an nn.Module that Python runs; got {type(model).__name__}; a "
            f"ScriptModule or a package needs no lowering"
        )
    if model.training:
        raise ValueError("model must be in eval mode; got one in training mode; call model.eval()")
    if options.backend not in (*BACKENDS, "auto"):
        raise ValueError(
            f'backend must be "aotinductor", "torchscript", "eager" or "auto"; got '
            f"{options.backend!r}; choose one"
        )
    is_float = isinstance(options.dtype, torch.dtype) and options.dtype.is_floating_point
    if not (options.dtype is None or options.dtype == "auto" or is_float):
        raise ValueError(
            f'dtype must be a floating point dtype, None or "auto"; got {options.dtype!r}; pass '
            f"torch.bfloat16, say"
        )
    inputs = ModelInputs.of(example_inputs)
    for tensor in inputs.tensors():
        if tensor.device.type != "cpu":
            raise ValueError(
                f"example_inputs must be on the CPU; got a tensor on {tensor.device}; call .cpu()"
            )
    return inputs


def count_facts(model: nn.Module, inputs: ModelInputs) -> ModelFacts | None:
    """What a call of the model does; None if the inputs have no batch, or one item does not run."""
    batch = inputs.batch_size()
    item = inputs.with_batch(1) if batch else inputs
    return facts_of_call(model, lambda: item.call(model), batch_size=batch or 1)


def _streams(
    pool: CPUPool, *, team_size: int | None, num_streams: int | None
) -> tuple[CPUPool, int]:
    """The cores that streams will own, and how many streams."""
    if team_size is not None:
        check_count(team_size, name="team_size", at_most=len(pool))
    if num_streams is None:
        num_streams = len(pool) // (team_size or 1)
    check_count(num_streams, name="num_streams", at_most=len(pool) // (team_size or 1))
    if team_size is None:
        return pool, num_streams
    return CPUPool(pool.core_ids[: team_size * num_streams]), num_streams


def _batch_sizes(
    inputs: ModelInputs, sizes: Iterable[int] | None, *, num_streams: int, dynamic: bool
) -> tuple[int, ...]:
    """Ascending; empty if the inputs have no common dim 0."""
    example = inputs.batch_size()
    if sizes is not None:
        chosen = tuple(sizes)
        for size in chosen:
            check_count(size, name="batch_sizes")
        if not chosen or not example:
            raise ValueError(
                f"batch_sizes must be sizes of a dim 0 that all inputs share; got {chosen!r} for "
                f"inputs with dim 0 of {example}; leave it out"
            )
        return tuple(sorted(set(chosen)))
    if not example:
        return ()
    if not dynamic:
        return (example,)
    return tuple(sorted(set(part_lengths(example, num_parts=num_streams))))


def _backends(options: Options, *, model: nn.Module) -> list[Backend]:
    from corestream.lowering.aoti import AOTInductorBackend
    from corestream.lowering.eager import EagerBackend
    from corestream.lowering.own_layers import may_have_own_layers
    from corestream.lowering.torchscript import TorchScriptBackend

    every: list[Backend] = [
        AOTInductorBackend(cache=options.cache),
        TorchScriptBackend(),
        *([TorchScriptBackend(own_layers=True)] if may_have_own_layers(model) else []),
        EagerBackend(measures_passes=options.backend == "eager"),
    ]
    return [one for one in every if options.backend in ("auto", one.name)]


def _dtypes(
    dtype: torch.dtype | str | None, *, request: LoweringRequest
) -> list[torch.dtype | None]:
    """What to compute in; None stands for what the model itself computes in."""
    import torch

    from corestream.lowering.probes import lowest_precision

    own = lowest_precision(list(request.model.parameters()), request.inputs.tensors())
    if isinstance(dtype, torch.dtype):
        return [None if dtype == own else dtype]
    if dtype is None or own != torch.float32:
        return [None]
    checks = {
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported,
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    return [None, *(half for half, is_fast in checks.items() if is_fast())]
