"""Machines that exist on paper: what a setting would do there, and how long it takes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from corestream.tuning.setting import Measurement, Setting
from corestream.tuning.tuner import CannotRun


@dataclass
class FakeClock:
    """Time goes on only when somebody works."""

    time_s: float = 0.0

    def now(self) -> float:
        return self.time_s

    def spend(self, seconds: float) -> None:
        self.time_s += seconds


@dataclass(frozen=True, kw_only=True)
class PaperMachine:
    """Rates of a model on a machine, in the units of runtime.stream_cost, each of them free.

    `barrier_ms` is what a team pays for its barriers in each call, `dispatch_ms` what every call
    costs whatever its size, `item_ms` the arithmetic of an item on one core, `weights_ms` what one
    core takes to read the weights, of which the machine's memory serves `memory_cores` at once.
    """

    num_cores: int
    barrier_ms: float = 0.05
    dispatch_ms: float = 0.05
    item_ms: float = 2.0
    weights_ms: float = 1.0
    memory_cores: float = 4.0
    serial: float = 0.05
    stock_factor: float = 1.2
    backend_factors: tuple[tuple[str, float], ...] = (("torchscript", 1.0),)

    def call_ms(self, setting: Setting) -> float:
        team, items = setting.team_size, setting.batch_size
        team = min(team, self.num_cores)
        speed = 1 / (self.serial + (1 - self.serial) / team)
        barriers = self.barrier_ms * (1 + math.log2(team)) if team > 1 else 0.0
        if setting.is_stock:
            factor, streams = self.stock_factor, 1
        else:
            factor, streams = dict(self.backend_factors)[setting.backend], setting.num_streams
        readers = max(1.0, streams * team / self.memory_cores)
        reading = self.weights_ms / team * readers
        compute = items * self.item_ms / speed
        return factor * (self.dispatch_ms + barriers + max(compute, reading) + 0.1 * reading)

    def measurement(self, setting: Setting, *, noise: float = 1.0) -> Measurement:
        call_ms = self.call_ms(setting) * noise
        streams = 1 if setting.is_stock else setting.num_streams
        return Measurement(
            items_per_s=1e3 * streams * setting.batch_size / call_ms,
            p50_ms=call_ms,
            p99_ms=1.3 * call_ms,
        )


@dataclass
class PaperMeasurer:
    """Measures on a paper machine; time passes on the clock as it would."""

    machine: PaperMachine
    clock: FakeClock
    noise: float = 0.0
    seed: int = 0
    lowering_s: dict[str, float] = field(default_factory=dict)
    per_team_size: frozenset[str] = frozenset()
    fails: Callable[[Setting], bool] = lambda setting: False
    log: list[Setting] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lowered: set[tuple[str, int]] = set()

    def _key(self, setting: Setting) -> tuple[str, int]:
        return setting.backend, setting.team_size if setting.backend in self.per_team_size else 0

    def preparation_s(self, setting: Setting) -> float:
        if setting.is_stock or self._key(setting) in self._lowered:
            return 0.0
        return self.lowering_s.get(setting.backend, 0.0)

    def prepare(self, setting: Setting) -> None:
        self.clock.spend(self.preparation_s(setting))
        self._lowered.add(self._key(setting))

    def measure(self, setting: Setting, *, seconds: float) -> Measurement:
        self.log.append(setting)
        if self.fails(setting):
            raise CannotRun(f"{setting}: it broke")
        self.clock.spend(max(seconds, self.machine.call_ms(setting) / 1e3) + 0.05)
        return self.machine.measurement(setting, noise=math.exp(self._random.gauss(0, self.noise)))
