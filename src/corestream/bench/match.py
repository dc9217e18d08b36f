"""One mode of a benchmark: contenders in processes of their own, in turns, round by round."""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from corestream.bench.disturbance import Counters
from corestream.bench.plan import OURS, STOCK, Contender, Load, Options, Plan
from corestream.bench.report import ContenderReport, ModeReport, Turn, Verdict, judge, make_row
from corestream.cpu.cpu_set import CPUSet
from corestream.measure.load import TIMEOUT_S, LoadResult
from corestream.measure.process import ChildError, MisuseError, TurnProcess

# A median of fewer rounds is not one.
MIN_ROUNDS = 5
_MIN_TURN_S, _MAX_TURN_S = 0.1, 3.0
# With shorter turns fewer rounds are better: percentiles need samples.
_GOOD_TURN_S = 0.3
_MARGIN_S = 60.0
_PATIENCE = 5.0

Tick = Callable[[str], object]


class UnfitError(Exception):
    """The inputs do not suit the mode, though the model takes them."""


class Match:
    """The processes of one mode.

    Args:
        plan: What to measure.
        options: What the user asked for.
        model: As it was named.
        inputs: The same.
        cpus: The CPUs that the contenders may use, for what disturbs them.
        folder: For logs, and the answers that are compared.
        setup_timeout_s: How long a process may take to load and lower.
        tick: Called with what is being done, some times a second.

    Not thread-safe: one thread measures.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        options: Options,
        model: str,
        inputs: Sequence[str],
        cpus: CPUSet,
        folder: Path,
        setup_timeout_s: float,
        tick: Tick,
    ) -> None:
        self._plan, self._options = plan, options
        self._model, self._inputs = model, list(inputs)
        self._cpus, self._folder, self._tick = cpus, folder, tick
        self._setup_timeout_s = setup_timeout_s
        self._stack = ExitStack()
        self._processes: dict[str, list[TurnProcess]] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        self._turns: dict[tuple[Load, str], list[Turn]] = {}
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._turn_s = 0.0

    def prepare(self) -> str:
        """Starts everybody, one after another, and returns what kind of model it is.

        Raises:
            UnfitError: The inputs do not suit the mode.
            MisuseError: There is no such model, or the inputs do not fit.
            ChildError: A process died, hung or failed.
        """
        for contender in self._plan.contenders:
            self._facts[contender.name] = facts = self._start(contender)
            if facts["weights"] != self._facts[STOCK]["weights"]:
                raise MisuseError(
                    f"model must have the same weights whenever it is made; got others in the "
                    f"process of {contender.name} for {self._model!r}; let it draw random numbers "
                    f"from torch only, or load its weights"
                )
            difference = facts["difference"]
            if difference is not None and not difference["is_within"]:
                self._problems.append(f"{contender.name} answers otherwise: {difference['reason']}")
        return str(self._facts[STOCK]["kind"])

    def _start(self, contender: Contender) -> dict[str, Any]:
        """The facts of the last of its processes, with all their set-up time."""
        processes: list[TurnProcess] = []
        facts: dict[str, Any] = {}
        setup_s = 0.0
        for index, cpus in enumerate(contender.slices):
            name = f"the process of {contender.name}"
            log = self._folder / f"{self._plan.mode}-{contender.name}-{index}.log"
            command = [sys.executable, "-W", "ignore", "-m", "corestream.bench.worker"]
            pinned = [str(CPUSet(cpus))] if cpus else []
            process = self._stack.enter_context(
                TurnProcess([*command, *pinned], name=name, log=log)
            )
            processes.append(process)
            facts = process.ask(
                "prepare",
                timeout_s=self._setup_timeout_s,
                on_tick=lambda text: self._tick(f"{self._plan.mode}, {contender.name}: {text}"),
                model=self._model,
                inputs=self._inputs,
                contender=dataclasses.asdict(contender),
                plan=dataclasses.asdict(self._plan),
                options=dataclasses.asdict(self._options),
                folder=str(self._folder),
            )
            if "unfit" in facts:
                raise UnfitError(facts["unfit"])
            setup_s += facts["setup_s"]
        self._processes[contender.name] = processes
        return {**facts, "setup_s": setup_s}

    def measure(self, *, budget_s: float) -> ModeReport:
        """All rounds of all loads: closed loops first, whose rates decide the open one's.

        Args:
            budget_s: Seconds that are left; five rounds are always made.

        Raises:
            ChildError: A process died or hung.
        """
        end_s = time.monotonic() + budget_s
        rounds = budget_s / (self._plan.num_turns * _GOOD_TURN_S)
        rounds = max(MIN_ROUNDS, min(self._options.rounds, int(rounds)))
        turn_s = budget_s / (self._plan.num_turns * rounds)
        self._turn_s = min(_MAX_TURN_S, max(_MIN_TURN_S, turn_s))
        for is_open in (False, True):
            loads = [load for load in self._plan.loads if load.is_open == is_open]
            later = 0 if is_open else len(self._plan.loads) - len(loads)
            share = len(loads) / max(1, len(loads) + later)
            phase_end_s = time.monotonic() + share * (end_s - time.monotonic())
            for number in range(rounds if loads else 0):
                if number >= MIN_ROUNDS and time.monotonic() > phase_end_s:
                    break
                self._round(number, loads=loads, rounds=rounds)
        return self._report()

    def _round(self, number: int, *, loads: Sequence[Load], rounds: int) -> None:
        for load in loads:
            rate_per_s = self._rate_per_s(load)
            for contender in self._plan.contenders:
                label = f"{self._plan.mode}, round {number + 1} of {rounds}, {load.label}"
                self._tick(f"{label}: {contender.name}")
                turn = self._turn(contender.name, load=load, rate_per_s=rate_per_s, seed=number)
                self._turns.setdefault((load, contender.name), []).append(turn)

    def _rate_per_s(self, load: Load) -> float | None:
        if load.share is None:
            return load.rate_per_s
        _, capacity = self._best_closed(STOCK)
        if capacity <= 0:
            raise ChildError(f"stock answered nothing, of which {load.label} could be a share")
        return load.share * capacity

    def _best_closed(self, contender: str) -> tuple[int, float]:
        """(users, requests per second) of the closed loop with the highest median rate."""
        found = [
            (statistics.median(turn.result.rate_per_s for turn in turns), load.users or 1)
            for (load, name), turns in self._turns.items()
            if name == contender and not load.is_open
        ]
        rate, users = max(found, key=lambda one: one[0], default=(0.0, 1))
        return users, rate

    def _turn(self, contender: str, *, load: Load, rate_per_s: float | None, seed: int) -> Turn:
        processes = self._processes[contender]
        shares = _shares(load.users, len(processes))
        threads, _ = self._best_closed(contender)
        # A call takes longer where others wait too; it must not look like a hang.
        timeout_s = TIMEOUT_S + _PATIENCE * self._facts[contender]["call_s"] * (
            load.users or threads
        )
        before, own_s = Counters.read(self._cpus), _cpu_seconds(processes)
        busy = []
        for index, (process, users) in enumerate(zip(processes, shares, strict=True)):
            if users == 0:
                continue
            busy.append(process)
            process.send(
                "load",
                users=users,
                rate_per_s=None if rate_per_s is None else rate_per_s / len(processes),
                seconds=self._turn_s,
                threads=-(-threads // len(processes)),
                seed=self._options.seed + 1000 * index + seed,
                timeout_s=timeout_s,
            )
        patience_s = self._turn_s + 2 * timeout_s + _MARGIN_S
        answers = [process.receive(timeout_s=patience_s) for process in busy]
        for answer in answers:
            if answer["error"] is not None:
                self._add_problem(f"{contender} failed under {load.label}: {answer['error']}")
        after = Counters.read(self._cpus)
        disturbance = after.since(before, own_cpu_s=_cpu_seconds(processes) - own_s)
        return Turn(_merge([_result_of(answer) for answer in answers]), disturbance)

    def _add_problem(self, text: str) -> None:
        if text not in self._problems:
            self._problems.append(text)

    def _report(self) -> ModeReport:
        batch_size = self._facts[STOCK]["batch_size"]
        ours = self._facts.get(OURS, {})
        rows = []
        verdicts: list[Verdict] = []
        for load in self._plan.loads:
            stock = self._turns.get((load, STOCK), [])
            for contender in self._plan.contenders:
                turns = self._turns[load, contender.name]
                rows.append(
                    make_row(load.label, contender.name, turns=turns, batch_size=batch_size or 1)
                )
                if contender.name != STOCK:
                    verdicts += judge(
                        load.label,
                        contender.name,
                        turns=turns,
                        stock=stock,
                        is_open=load.is_open,
                    )
            if load.share is not None:
                users, _ = self._best_closed(STOCK)
                rate = self._rate_per_s(load) or 0.0
                self._notes.append(
                    f"{load.label} is {rate:.3g} requests/s, of what stock answers to {users} "
                    f"user{'s' if users > 1 else ''}; stock answers it on as many threads"
                )
        return ModeReport(
            mode=self._plan.mode,
            batch_size=batch_size,
            num_cores=ours.get("num_cores", len(self._plan.core_ids)),
            team_size=ours.get("team_size", self._plan.team_size),
            rounds=min(len(turns) for turns in self._turns.values()),
            turn_s=self._turn_s,
            contenders=tuple(self._report_of(contender) for contender in self._plan.contenders),
            rows=tuple(rows),
            verdicts=tuple(verdicts),
            problems=tuple(self._problems),
            notes=(*self._notes, *self._advice(verdicts)),
        )

    def _advice(self, verdicts: Sequence[Verdict]) -> list[str]:
        """What to try where streams lose."""
        is_slower = any(
            verdict.contender == OURS and verdict.is_beyond_noise and (verdict.ratio or 1) < 1
            for verdict in verdicts
        )
        if not is_slower:
            return []
        fewer = self._plan.mode == "realtime" and self._plan.team_size > 1
        option = "try --cores-per-stream 1; " if fewer else ""
        advice = f"{option}corestream tune finds how many there should be"
        return [f"slower than stock with these streams: {advice}"]

    def _report_of(self, contender: Contender) -> ContenderReport:
        facts, processes = self._facts[contender.name], self._processes[contender.name]
        memories = [process.memory() for process in processes]
        rss = [memory.rss_bytes for memory in memories if memory is not None]
        pss = [memory.pss_bytes for memory in memories if memory and memory.pss_bytes is not None]
        difference = facts["difference"]
        auto = [f"streams by {facts['auto']}"] if facts.get("auto") else []
        return ContenderReport(
            name=contender.name,
            label=contender.label,
            setup_s=facts["setup_s"],
            rss_bytes=sum(rss) if len(rss) == len(processes) else None,
            pss_bytes=sum(pss) if len(pss) == len(processes) else None,
            num_processes=len(processes),
            lowered=facts.get("lowered"),
            num_streams=facts.get("num_streams"),
            error=difference and difference["error"],
            error_limit=difference and difference["limit"],
            notes=(*auto, *facts["notes"]),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


def _shares(users: int | None, num_processes: int) -> list[int | None]:
    """How many users each process gets; None for each in an open loop."""
    if users is None:
        return [None] * num_processes
    each, more = divmod(users, num_processes)
    return [each + (index < more) for index in range(num_processes)]


def _result_of(answer: dict[str, Any]) -> LoadResult:
    latencies = tuple(answer["latencies_s"])
    return LoadResult(**{**answer, "latencies_s": latencies, "error": None})


def _merge(results: Sequence[LoadResult]) -> LoadResult:
    """Processes that bore a load together: their rates add up."""
    if len(results) == 1:
        return results[0]
    completed, rate = (
        sum(values)
        for values in zip(
            *((result.completed, result.rate_per_s) for result in results), strict=True
        )
    )
    return LoadResult(
        completed=int(completed),
        failed=sum(result.failed for result in results),
        rejected=sum(result.rejected for result in results),
        seconds=completed / rate if rate > 0 else max(result.seconds for result in results),
        latencies_s=tuple(latency for result in results for latency in result.latencies_s),
    )


def _cpu_seconds(processes: Sequence[TurnProcess]) -> float:
    """Of what measures: the processes, and this one, which reads what they write."""
    return time.process_time() + sum(process.cpu_seconds() for process in processes)
