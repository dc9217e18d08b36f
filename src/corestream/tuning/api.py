"""`tune`: how many streams, how large teams, which batch, by measuring."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from corestream.cpu.pool import CPUPool
from corestream.errors import CorestreamWarning, LoweringError
from corestream.runtime.executor import check_count
from corestream.tuning.objective import Objective
from corestream.tuning.progress import Callback, reporting
from corestream.tuning.result import TuneResult
from corestream.tuning.search import make_search
from corestream.tuning.space import SearchSpace
from corestream.tuning.tuner import CannotRun, Course, Plan, Tuner

if TYPE_CHECKING:
    from corestream.measure.inputs import ModelInputs
    from corestream.tuning.measurer import Load

# Cheapest to try first.
BACKENDS = ("torchscript", "eager", "aotinductor")


def tune(
    model: Any,
    example_inputs: Any,
    *,
    objective: str = "throughput",
    cpu_pool: CPUPool | None = None,
    budget_s: float = 60.0,
    batch_sizes: Iterable[int] | None = None,
    backends: Iterable[str] | None = None,
    num_users: int | None = None,
    rate_per_s: float | None = None,
    save: bool | str | os.PathLike[str] = True,
    cache: bool | str | os.PathLike[str] = True,
    seed: int = 0,
    progress: Callback | bool | None = None,
) -> TuneResult:
    """Finds the best streams, team size, batch and backend for a model by measuring.

    Looks at settings from coarse to fine while two thirds of the time last, then measures the best
    and stock PyTorch, unpinned, in turns. Streams are recommended only where they are faster than
    stock beyond noise. The model is not changed.

    Args:
        model: An nn.Module in eval mode; or what streams run as it is: a ScriptModule, the path of
            a ``.pt2`` package, what :func:`corestream.lower` returned, a callable.
        example_inputs: A tensor, a tuple of positional arguments, a mapping of keyword arguments,
            or ``corestream.measure.ModelInputs`` for both, on the CPU.
        objective: "throughput": most items per second, each stream running requests of its own;
            "latency": the shortest median for one request at a time, of the example's batch, cut
            over the streams as MultiStreamModule does; "p99<=20 ms": most items per second of
            those settings whose p99 keeps to that.
        cpu_pool: The cores; None: ``CPUPool()``, what the CPU budget allows.
        budget_s: Seconds for everything. A lowering that has begun is not interrupted; one that
            would not be done in time is not begun, and the notes say so.
        batch_sizes: Items that a stream may run at a time; None: 1, 2, 4 to 32 and the example's,
            or the example's alone for latencies and where requests arrive by themselves.
        backends: Some of "torchscript", "eager" and "aotinductor"; None: all, as time allows.
        num_users: Users who each wait for their answer before they send the next request, for
            stock and streams alike; None: one for each stream, and one for stock.
        rate_per_s: Requests arrive at random (a Poisson process) at this rate, whether or not the
            last ones are answered; latencies count from arrival. For "latency" and "p99<=...".
        save: Save the profile for "AUTO" of MultiStreamModule and TaskExecutor; a path: there.
        cache: As :func:`corestream.lower` takes it.
        seed: Of the search and of the arrivals.
        progress: Called with what is being done and the share of the time that is gone; None: a
            bar on stderr if that is a terminal; False: nothing.

    Returns:
        The recommended setting, everything that was measured, and what is worth knowing.

    Raises:
        TypeError: An argument is of another type.
        ValueError: An argument is out of range, or the model is in training mode.
        LoweringError: The model does not run on the example.

    Example:
        >>> import corestream, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU()).eval()
        >>> result = corestream.tune(
        ...     model, torch.rand(4, 8), budget_s=2, batch_sizes=[1, 4], backends=["torchscript"],
        ...     save=False,
        ... )
        >>> any(trial.setting.is_stock for trial in result.trials)
        True

    Source: elasticsearch's allocations and OpenVINO's benchmark_app search by hand what this does.

    Not thread-safe: what else runs on the cores is measured, too. Waits without the GIL.
    """
    from corestream.measure.inputs import ModelInputs
    from corestream.tuning.measurer import Load, StreamMeasurer

    goal = Objective.parse(objective)
    inputs = ModelInputs.of(example_inputs)
    pool = CPUPool() if cpu_pool is None else cpu_pool
    _check(pool, budget_s=budget_s, num_users=num_users, rate_per_s=rate_per_s, goal=goal)
    load = Load(num_users, rate_per_s, seed)
    space = _space(
        model, inputs, pool=pool, goal=goal, load=load, sizes=batch_sizes, backends=backends
    )
    notes: list[str] = []
    plan = Plan(
        space=space,
        search=make_search(space, seed=seed, notes=notes),
        objective=goal,
        budget_s=budget_s,
        is_open=rate_per_s is not None,
    )
    measurer = StreamMeasurer(model, inputs, space=space, pool=pool, load=load, cache=cache)
    with warnings.catch_warnings(record=True) as caught, reporting(progress, title="tune") as tell:
        warnings.simplefilter("always", CorestreamWarning)
        tuner = Tuner(plan, measurer=measurer, now=time.monotonic, on_progress=tell)
        try:
            course = tuner.run()
        except CannotRun as error:
            raise LoweringError(
                f"the model must run on example_inputs; got {error}; pass inputs that it takes"
            ) from error
    texts = [str(one.message) for one in caught if one.category is CorestreamWarning]
    for one in caught:
        if one.category is not CorestreamWarning:  # the model's own
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    result = _result(
        course, model, pool=pool, plan=plan, load=load, notes=[*notes, *dict.fromkeys(texts)]
    )
    return _saved(result, save)


def _check(
    pool: Any,
    *,
    budget_s: float,
    num_users: int | None,
    rate_per_s: float | None,
    goal: Objective,
) -> None:
    if not isinstance(pool, CPUPool):
        raise TypeError(f"cpu_pool must be a CPUPool; got {pool!r}; write CPUPool(core_ids)")
    if not (budget_s > 0 and math.isfinite(budget_s)):
        raise ValueError(f"budget_s must be above 0; got {budget_s!r}; give it some seconds")
    if num_users is not None:
        check_count(num_users, name="num_users")
    if rate_per_s is None:
        return
    if not (rate_per_s > 0 and math.isfinite(rate_per_s)):
        raise ValueError(f"rate_per_s must be above 0; got {rate_per_s!r}; ask for some requests")
    if num_users is not None:
        raise ValueError(
            f"num_users and rate_per_s must not both be given; got {num_users} and {rate_per_s}; "
            f"requests come from users who wait, or at a rate"
        )
    if goal.kind == "throughput":
        raise ValueError(
            f'objective must be "latency" or "p99<=..." where requests come at a rate, which is '
            f"the throughput then; got {goal} and rate_per_s={rate_per_s}; leave rate_per_s out"
        )


def _space(
    model: Any,
    inputs: ModelInputs,
    *,
    pool: CPUPool,
    goal: Objective,
    load: Load,
    sizes: Iterable[int] | None,
    backends: Iterable[str] | None,
) -> SearchSpace:
    from corestream.tuning.measurer import GIVEN, default_batch_sizes, stock_threads

    example = inputs.batch_size() or None
    is_split = goal.kind == "latency" and load.rate_per_s is None and load.num_users in (None, 1)
    if sizes is not None:
        chosen = tuple(sorted(set(sizes)))
        for size in chosen:
            check_count(size, name="batch_sizes")
        if not chosen or (example is None and chosen != (1,)):
            raise ValueError(
                f"batch_sizes must be sizes of a dim 0 that all inputs share; got {chosen!r} for "
                f"inputs without one; leave it out"
            )
        is_split = False
    elif goal.kind == "latency" or load.rate_per_s is not None:
        chosen = (example or 1,)
    else:
        chosen = default_batch_sizes(example)
    lowerable = _is_lowerable(model)
    if not lowerable and backends is not None:
        raise ValueError(
            f"backends must be left out for a model that is lowered already; got {backends!r}"
        )
    return SearchSpace(
        num_cores=len(pool),
        batch_sizes=chosen,
        backends=_checked_backends(model, inputs, backends) if lowerable else (GIVEN,),
        stock_threads=stock_threads(),
        request_items=(example or 1) if is_split else None,
    )


def _is_lowerable(model: Any) -> bool:
    import torch

    from corestream.lowering.model import LoweredModule

    return isinstance(model, torch.nn.Module) and not isinstance(
        model, torch.jit.ScriptModule | LoweredModule
    )


def _checked_backends(
    model: Any, inputs: ModelInputs, backends: Iterable[str] | None
) -> tuple[str, ...]:
    from corestream.lowering.api import Options, check_arguments

    check_arguments(model, inputs, options=Options())
    chosen = BACKENDS if backends is None else tuple(dict.fromkeys(backends))
    if not chosen or set(chosen) - set(BACKENDS):
        raise ValueError(f"backends must be some of {BACKENDS}; got {chosen!r}; name one of them")
    return tuple(sorted(chosen, key=BACKENDS.index))


def _result(
    course: Course, model: Any, *, pool: CPUPool, plan: Plan, load: Load, notes: list[str]
) -> TuneResult:
    from corestream.runtime.auto import profile_key

    verdict = course.verdict
    if verdict is None:
        raise LoweringError("tuning must end with a verdict; got none; this is a mistake of ours")
    failures = dict.fromkeys(
        reason for reason in course.reasons.values() if not reason.startswith("not tried")
    )
    return TuneResult(
        recommended=verdict.recommended,
        streams=verdict.streams,
        verdict=verdict.text,
        is_beyond_noise=verdict.is_beyond_noise,
        is_met=course.is_met,
        objective=str(plan.objective),
        load=_describe(load),
        trials=course.trials(),
        key=profile_key(model, pool),
        budget_s=plan.budget_s,
        elapsed_s=course.elapsed_s,
        notes=(*course.notes, *failures, *notes),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _describe(load: Load) -> str:
    if load.rate_per_s is not None:
        return f"open loop of {load.rate_per_s:g} requests/s"
    if load.num_users is not None:
        return f"closed loop of {load.num_users} users"
    return "closed loop of a user for each stream"


def _saved(result: TuneResult, save: bool | str | os.PathLike[str]) -> TuneResult:
    """The result, with a note of where its profile is or why it is nowhere."""
    from dataclasses import replace

    if save is False or result.profile is None:
        return result
    try:
        path = result.save(None if save is True else save)
    except (OSError, RuntimeError) as error:
        if save is not True:
            raise
        return replace(result, notes=(*result.notes, f"the profile was not saved: {error}"))
    return replace(result, notes=(*result.notes, f"the profile is {path}"))
