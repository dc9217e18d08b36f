"""What a benchmark found: records, verdicts, and the same as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from corestream.bench.disturbance import Disturbance, mean
from corestream.bench.plan import OURS
from corestream.measure.load import LoadResult
from corestream.measure.percentiles import percentile
from corestream.measure.timing import Timing, is_faster, speedup

PERCENTS = (50, 90, 99, 100)

# Who has less than half of the CPUs measures the scheduler.
_MAX_DISTURBED_SHARE = 0.5
_SHARE_WORTH_SAYING = 0.05


@dataclass(frozen=True)
class Turn:
    """What one contender did in one turn.

    Attributes:
        result: The load's outcome.
        disturbance: What kept it from the CPUs.

    A value: threads may share it.
    """

    result: LoadResult
    disturbance: Disturbance


@dataclass(frozen=True)
class ContenderReport:
    """One way that the model was run.

    Attributes:
        name: "stock", "corestream", or an extra one.
        label: What it is, in words.
        setup_s: Seconds of loading, lowering and warm-up.
        rss_bytes: Memory of its processes after the loads, pages of libraries included.
        pss_bytes: The same with shared pages divided by who shares them; None: not told.
        num_processes: How many there are.
        lowered: Backend and dtype of the lowered model; None: it was not lowered.
        num_streams: None: there are none.
        error: How far its answers are from stock's; None: it is stock.
        error_limit: What that may be.
        notes: What it was warned of.

    A value: threads may share it.
    """

    name: str
    label: str
    setup_s: float
    rss_bytes: int | None
    pss_bytes: int | None
    num_processes: int = 1
    lowered: str | None = None
    num_streams: int | None = None
    error: float | None = None
    error_limit: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """What one contender did under one load, over all rounds.

    Attributes:
        load: Such as "4 users".
        contender: Its name.
        items_per_s: The median of the rounds' rates; an item is one of the batch.
        items_per_s_low: The lowest of the rounds.
        items_per_s_high: The highest.
        latency_ms: By percentile, of the requests of all rounds; None: none was answered.
        completed: Requests that were answered.
        failed: Requests that were not.
        rejected: Requests that were refused.
        disturbance: What kept it from the CPUs.

    A value: threads may share it.
    """

    load: str
    contender: str
    items_per_s: float
    items_per_s_low: float
    items_per_s_high: float
    latency_ms: dict[int, float | None]
    completed: int
    failed: int
    rejected: int
    disturbance: Disturbance


@dataclass(frozen=True)
class Verdict:
    """A contender against stock, under one load.

    Attributes:
        load: Such as "4 users".
        contender: Who is judged.
        metric: "throughput", or a latency such as "p99".
        ratio: How many times as good as stock: the median of the rounds' quotients; None: there is
            none, for one of the two answered nothing.
        low: The lowest quotient of a round.
        high: The highest.
        is_beyond_noise: Whether the two differ by more than the rounds do, and by more than other
            processes on the CPUs can have made of it.
        disturbed_share: Of the CPUs' time, what others had while one of the two was measured.

    A value: threads may share it.
    """

    load: str
    contender: str
    metric: str
    ratio: float | None
    low: float | None
    high: float | None
    is_beyond_noise: bool
    disturbed_share: float = 0.0

    @property
    def text(self) -> str:
        """The verdict in words."""
        if self.ratio is None or self.low is None or self.high is None:
            return f"no verdict on {self.metric}: nothing was answered"
        spread = f"rounds {self.low:.3g} to {self.high:.3g}"
        if not self.is_beyond_noise:
            busy = f"; others had {self.disturbed_share:.0%} of the CPUs"
            busy = busy if self.disturbed_share >= _SHARE_WORTH_SAYING else ""
            return (
                f"no difference beyond noise in {self.metric} ({self.ratio:.3g} ×, {spread}{busy})"
            )
        word = "better" if self.ratio > 1 else "worse"
        factor = self.ratio if self.ratio > 1 else 1 / self.ratio
        return f"{self.metric} {factor:.3g} × {word} than stock ({spread})"


@dataclass(frozen=True)
class ModeReport:
    """One mode: offline or realtime.

    Attributes:
        mode: Which.
        batch_size: Items of a call; None: the inputs have no common dim 0.
        num_cores: Cores that corestream's streams own.
        team_size: Cores of a stream in realtime mode.
        rounds: Turns of each contender for each load.
        turn_s: Seconds of a turn.
        contenders: Who was measured.
        rows: What they did.
        verdicts: Each against stock.
        problems: What is wrong: other answers than stock's, requests that failed.
        notes: What else is worth knowing.

    A value: threads may share it.
    """

    mode: str
    batch_size: int | None
    num_cores: int
    team_size: int
    rounds: int
    turn_s: float
    contenders: tuple[ContenderReport, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A benchmark of one model.

    Attributes:
        model: As it was named.
        kind: What it is.
        inputs: As they were given.
        machine: Facts by name: the CPU, the CPU budget and why, versions.
        modes: One report for each.
        notes: What concerns all modes.

    Example:
        >>> Report("m:f", "an nn.Module", ("2x3",), {"cpu": "x"}, ()).problems
        ()

    A value: threads may share it.
    """

    model: str
    kind: str
    inputs: tuple[str, ...]
    machine: dict[str, Any]
    modes: tuple[ModeReport, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def problems(self) -> tuple[str, ...]:
        """Those of all modes."""
        return tuple(f"{one.mode}: {text}" for one in self.modes for text in one.problems)

    def missed(self, at_least: float) -> list[str]:
        """What to say of modes where corestream is not so many times as fast as stock.

        Args:
            at_least: The factor of throughput that its best closed loop must have, beyond noise if
                that is above 1.
        """
        found = []
        for mode in self.modes:
            judged = [
                verdict
                for verdict in mode.verdicts
                if verdict.contender == OURS and verdict.metric == "throughput"
            ]
            best = max(judged, key=lambda verdict: verdict.ratio or 0.0)
            is_proven = best.is_beyond_noise or at_least <= 1
            if (best.ratio or 0.0) < at_least or not is_proven:
                found.append(
                    f"{mode.mode} throughput must be at least {at_least:g} × stock's; got "
                    f"{best.text} with {best.load}"
                )
        return found

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON; a verdict has its text with it."""
        values = asdict(self)
        for mode, report in zip(values["modes"], self.modes, strict=True):
            for verdict, original in zip(mode["verdicts"], report.verdicts, strict=True):
                verdict["text"] = original.text
        return {**values, "problems": list(self.problems)}


def make_row(load: str, contender: str, *, turns: Sequence[Turn], batch_size: int) -> Row:
    """Sums up the rounds.

    Args:
        load: Its label.
        contender: Its name.
        turns: One for each round.
        batch_size: Items of a request.
    """
    rates = [batch_size * turn.result.rate_per_s for turn in turns]
    latencies = [latency for turn in turns for latency in turn.result.latencies_s]
    return Row(
        load=load,
        contender=contender,
        items_per_s=percentile(rates, 50),
        items_per_s_low=min(rates),
        items_per_s_high=max(rates),
        latency_ms={
            percent: 1e3 * percentile(latencies, percent) if latencies else None
            for percent in PERCENTS
        },
        completed=len(latencies),
        failed=sum(turn.result.failed for turn in turns),
        rejected=sum(turn.result.rejected for turn in turns),
        disturbance=mean([turn.disturbance for turn in turns]),
    )


def judge(
    load: str, contender: str, *, turns: Sequence[Turn], stock: Sequence[Turn], is_open: bool
) -> list[Verdict]:
    """A contender against stock: by throughput in a closed loop, by latencies in an open one.

    Args:
        load: Its label.
        contender: Its name.
        turns: One for each round.
        stock: Stock's, of the same rounds.
        is_open: Whether the rate was given, so that it tells nothing.
    """
    shares = [mean([turn.disturbance for turn in both]) for both in (turns, stock)]
    disturbed = max(one.others_share + one.stolen_share for one in shares)
    metrics = {"p50": 50, "p99": 99} if is_open else {"throughput": None}
    found = []
    for metric, percent in metrics.items():
        ours, theirs = _timing(turns, percent), _timing(stock, percent)
        quotients = _quotients(ours, theirs)
        if not quotients:
            found.append(Verdict(load, contender, metric, None, None, None, False, disturbed))
            continue
        ratio = speedup(ours, theirs)
        found.append(
            Verdict(
                load=load,
                contender=contender,
                metric=metric,
                ratio=ratio,
                low=min(quotients),
                high=max(quotients),
                is_beyond_noise=(is_faster(ours, theirs) or is_faster(theirs, ours))
                and _exceeds(ratio, disturbed),
                disturbed_share=disturbed,
            )
        )
    return found


def _exceeds(ratio: float, disturbed: float) -> bool:
    """Whether it is more than it is if others took that share from one of the two only."""
    return disturbed <= _MAX_DISTURBED_SHARE and max(ratio, 1 / ratio) > 1 / (1 - disturbed)


def _timing(turns: Sequence[Turn], percent: int | None) -> Timing:
    """Seconds per request, or the latency of a percentile, by round."""
    results = [turn.result for turn in turns]
    if percent is not None:
        return Timing(tuple(result.percentile_ms(percent) / 1e3 for result in results))
    rates = [result.rate_per_s for result in results]
    return Timing(tuple(1 / rate if rate > 0 else math.inf for rate in rates))


def _quotients(ours: Timing, theirs: Timing) -> list[float]:
    """Of each round; none if somebody answered nothing in one of them."""
    pairs = list(zip(ours.samples_s, theirs.samples_s, strict=False))
    if any(math.isinf(sample) for pair in pairs for sample in pair):
        return []
    return [stock / max(our, 1e-12) for our, stock in pairs]
