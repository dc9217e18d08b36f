"""Runs settings for real: lowers the model, starts streams, puts load on them."""

from __future__ import annotations

import concurrent.futures
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from corestream.cpu.pool import CPUPool
from corestream.errors import LoweringError
from corestream.lowering.api import Options, lower_on
from corestream.measure.inputs import ModelInputs
from corestream.measure.load import LoadResult, Submit, as_submit, closed_loop, open_loop
from corestream.runtime.executor import TaskExecutor
from corestream.runtime.streams import MultiStreamModule
from corestream.runtime.task import Task
from corestream.runtime.teams import release_idle_team
from corestream.tuning.setting import Measurement, Setting
from corestream.tuning.space import SearchSpace
from corestream.tuning.tuner import CannotRun

GIVEN = "given"

# Seconds that a first lowering is taken to need: a fixed part, and calls of the largest batch.
_FIRST_LOWERING = {"torchscript": (0.3, 12), "eager": (0.3, 12), "aotinductor": (40.0, 10)}

# What is traced suits every team size; what is compiled suits the one it was compiled for.
_PER_TEAM_SIZE = {"aotinductor"}

# An open loop that answers fewer than this share of the requests in time is overrun.
_KEPT_UP = 0.9


@dataclass(frozen=True)
class Load:
    """What is asked of the settings.

    Attributes:
        num_users: Users of a closed loop who each wait for their answer; None: one for each
            stream, so that all are busy and none has a queue.
        rate_per_s: Requests that arrive per second at random; None: a closed loop.
        seed: Of the arrivals.
    """

    num_users: int | None = None
    rate_per_s: float | None = None
    seed: int = 0


class StreamMeasurer:
    """Runs one model in all settings of a space.

    Executors are made for each measurement: two that are alive at once would have idle teams, and
    libgomp does not let teams spin once they outnumber the CPUs (docs/oversubscription.md).

    Args:
        model: An nn.Module to lower, or what streams can run already.
        inputs: Example inputs.
        space: The settings.
        pool: The cores.
        load: What is asked of them.
        cache: As :func:`corestream.lower` takes it.
    """

    def __init__(
        self,
        model: Any,
        inputs: ModelInputs,
        *,
        space: SearchSpace,
        pool: CPUPool,
        load: Load,
        cache: bool | str | os.PathLike[str] = True,
    ) -> None:
        self._model, self._inputs = model, inputs
        self._space, self._pool, self._load = space, pool, load
        self._cache = cache
        self._lowered: dict[tuple[str, int], Any] = {}
        self._refused: dict[tuple[str, int], str] = {}
        self._lowering_s: dict[str, float] = {}
        self._item_s = 0.0
        self._direct: Callable[..., Any] | None = None

    def preparation_s(self, setting: Setting) -> float:
        """What the last lowering with the backend took, or, before it, a guess."""
        key = _key(setting)
        if setting.is_stock or setting.backend == GIVEN or key in self._lowered:
            return 0.0
        if key in self._refused:
            return 0.0
        fixed, calls = _FIRST_LOWERING[setting.backend]
        guess = fixed + calls * self._item_s * self._space.batch_sizes[-1]
        return self._lowering_s.get(setting.backend, guess)

    def prepare(self, setting: Setting) -> None:
        """Lowers the model, unless that was done. Raises CannotRun."""
        key = _key(setting)
        if setting.is_stock or setting.backend == GIVEN or key in self._lowered:
            return
        if key in self._refused:
            raise CannotRun(self._refused[key])
        started = time.perf_counter()
        try:
            self._lowered[key] = self._lower(setting)
        except LoweringError as error:
            self._refused[key] = f"{setting.backend}: {error}"
            raise CannotRun(self._refused[key]) from error
        self._lowering_s[setting.backend] = time.perf_counter() - started

    def _lower(self, setting: Setting) -> Any:
        sizes = self._space.batch_sizes if self._inputs.batch_size() else ()
        if setting.backend not in _PER_TEAM_SIZE:
            # Each size costs a compilation on every stream; the others are warmed up when they
            # are measured.
            sizes = sizes[-1:]
        options = Options(
            backend=setting.backend, cache=self._cache, progress=False, is_timed=False
        )
        release_idle_team()
        with TaskExecutor(CPUPool(self._pool.core_ids[: setting.team_size])) as executor:
            return lower_on(
                executor,
                model=self._model,
                inputs=self._inputs,
                batch_sizes=sizes,
                options=options,
            )

    def measure(self, setting: Setting, *, seconds: float) -> Measurement:
        """Puts load on the setting for about so long. Raises CannotRun."""
        # Left from building the model or from an earlier call of it.
        release_idle_team()
        running = self._stock(setting) if setting.is_stock else self._streams(setting)
        try:
            with running as (submit, num_users, items):
                result = self._run(submit, num_users=num_users, seconds=seconds)
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            raise CannotRun(f"{setting}: {type(error).__name__}: {error}") from error
        if not result.completed:
            raise CannotRun(f"{setting}: no request was answered: {result.error!r}")
        measurement = self._judge(result, items=items)
        if setting.is_stock:
            item_s = 1.0 / max(measurement.items_per_s, 1e-12)
            # A stall makes calls longer, nothing makes them shorter.
            self._item_s = min(item_s, self._item_s or item_s)
        return measurement

    def _run(self, submit: Submit, *, num_users: int, seconds: float) -> LoadResult:
        load = self._load
        if load.rate_per_s is None:
            users = load.num_users or num_users
            return closed_loop(submit, num_users=users, duration_s=seconds, warm_up=1)
        # Enough arrivals to know a median.
        seconds = max(seconds, 20 / load.rate_per_s)
        return open_loop(submit, rate_per_s=load.rate_per_s, duration_s=seconds, seed=load.seed)

    def _judge(self, result: LoadResult, *, items: int) -> Measurement:
        asked = result.completed + result.rejected + result.failed
        is_late = self._load.rate_per_s is not None and (
            result.rate_per_s < _KEPT_UP * asked / max(result.seconds, 1e-9)
            or result.rejected + result.failed > (1 - _KEPT_UP) * asked
        )
        return Measurement(
            items_per_s=result.rate_per_s * items,
            p50_ms=result.percentile_ms(50),
            p99_ms=result.percentile_ms(99),
            is_overrun=is_late or result.failed > 0,
        )

    def _sized(self, batch_size: int) -> ModelInputs:
        present = self._inputs.batch_size()
        if present in (None, batch_size):
            return self._inputs
        return self._inputs.with_batch(batch_size)

    @contextmanager
    def _stock(self, setting: Setting) -> Iterator[tuple[Submit, int, int]]:
        """The model as it is, called by whoever asks: threads are the kernel's to place."""
        inputs = self._sized(setting.batch_size)
        model = self._direct = self._direct or _direct(self._model)

        def call() -> Any:
            with torch.no_grad():
                return inputs.call(model)

        if self._load.rate_per_s is None:
            yield as_submit(call), 1, setting.batch_size
            return
        workers = self._load.num_users or len(self._pool)
        with concurrent.futures.ThreadPoolExecutor(workers) as executor:
            yield as_submit(call, executor=executor), 1, setting.batch_size

    @contextmanager
    def _streams(self, setting: Setting) -> Iterator[tuple[Submit, int, int]]:
        model = self._lowered.get(_key(setting), self._model)
        pool = CPUPool(self._pool.core_ids[: setting.num_cores])
        if self._space.request_items is None:
            inputs = self._sized(setting.batch_size)
            with TaskExecutor(pool, setting.num_streams) as executor:
                task = Task(model, executor)
                inputs.call(task.warm_up)
                submit: Callable[[], Any] = lambda: inputs.call(task)  # noqa: E731 (its type)
                yield submit, setting.num_streams, setting.batch_size
            return
        inputs = self._sized(self._space.request_items)
        streams = MultiStreamModule(model, setting.num_streams, pool)
        try:
            inputs.call(streams.warm_up)
            yield lambda: inputs.call(streams.forward_async), 1, self._space.request_items
        finally:
            streams.executor.shutdown()


def _key(setting: Setting) -> tuple[str, int]:
    team = setting.team_size if setting.backend in _PER_TEAM_SIZE else 0
    return setting.backend, team


def _direct(model: Any) -> Callable[..., Any]:
    """What calls the model without streams."""
    if not isinstance(model, str | os.PathLike):
        call: Callable[..., Any] = model
        return call
    from torch._inductor import aoti_load_package

    loaded: Callable[..., Any] = aoti_load_package(os.fspath(model))
    return loaded


def default_batch_sizes(example: int | None) -> tuple[int, ...]:
    """Powers of two up to 32, and the example's own."""
    if example is None:
        return (1,)
    powers = {2**exponent for exponent in range(6)}
    return tuple(sorted(powers | {example} if example <= 32 else {*powers, example}))


def stock_threads() -> int:
    """The intra-op threads that stock PyTorch uses."""
    return max(1, math.floor(torch.get_num_threads()))
