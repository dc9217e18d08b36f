"""Builds the candidates, drops what is wrong, measures the rest on the streams, keeps the best."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from corestream.errors import CorestreamWarning, LoweringError
from corestream.lowering.backend import Artifact, Backend, LoweringRequest, OpenBatchError
from corestream.lowering.model import LoweredModule
from corestream.lowering.probes import Probe, make_probes
from corestream.lowering.report import CandidateReport, LoweringReport
from corestream.lowering.tracing_warnings import warnings_as_notes
from corestream.measure.numerics import Difference
from corestream.measure.timing import Timing, compare_times, speedup
from corestream.runtime.executor import TaskExecutor
from corestream.runtime.model_structure import model_structure
from corestream.runtime.task import Task
from corestream.runtime.teams import release_idle_team

if TYPE_CHECKING:
    import torch

INTERRUPTED = "lowering must run to its end; got an interruption; call it again"
_SECONDS_PER_CANDIDATE = 3.0
_ROUNDS = 20
# What the medians of so many rounds repeat to. Ties go to the one that needs less memory, so a
# wider margin gives speed away: at 2 % ResNet-50 lost 3 % to a package of half the size.
_TIE = 0.01


def num_steps(num_candidates: int) -> int:
    """How often a chooser calls `on_step`: two steps for each candidate, and two for all."""
    return 2 + 2 * num_candidates


@dataclass(frozen=True)
class _Candidate:
    """What a backend built, and what is right as far as the probes tell."""

    name: str
    variant: str
    dtype: torch.dtype | None
    artifact: Artifact
    task: Task
    difference: Difference
    warnings: tuple[str, ...]

    def cost(self) -> tuple[bool, int]:
        """What decides between equally fast ones."""
        return self.artifact.holds_gil, self.artifact.weight_bytes + self.artifact.extra_bytes

    def report(self, *, timing: Timing | None, is_chosen: bool) -> CandidateReport:
        times = (timing.median_s, timing.p10_s, timing.p90_s) if timing else (None, None, None)
        median_ms, p10_ms, p90_ms = (time if time is None else time * 1e3 for time in times)
        return CandidateReport(
            backend=self.artifact.backend,
            dtype=_dtype_name(self.dtype),
            reason=self.difference.reason,
            error=self.difference.error,
            error_limit=self.difference.limit,
            median_ms=median_ms,
            p10_ms=p10_ms,
            p90_ms=p90_ms,
            weight_bytes=self.artifact.weight_bytes,
            extra_bytes=self.artifact.extra_bytes,
            holds_gil=self.artifact.holds_gil,
            is_chosen=is_chosen,
            notes=(*self.artifact.notes, *self.warnings),
            variant=self.variant,
        )


class Chooser:
    """One lowering, step by step, on the streams of an executor.

    Args:
        request: The model and the streams; its dtype is ignored.
        executor: The streams that candidates are checked and measured on.
        backends: The ways to try, in order.
        dtypes: What to compute in: each is tried with each backend.
        tolerance: Limit of the numerical difference; None: what the dtype allows.
        notes: What the report says of the whole.
        on_step: Told what begins.
        is_timed: Time what can be used also where there is no choice.
    """

    def __init__(
        self,
        request: LoweringRequest,
        *,
        executor: TaskExecutor,
        backends: Sequence[Backend],
        dtypes: Sequence[torch.dtype | None],
        tolerance: float | None,
        notes: Sequence[str],
        on_step: Callable[[str], object],
        is_timed: bool = True,
    ) -> None:
        self._is_timed = is_timed
        self._request = request
        self._executor = executor
        self._backends = backends
        self._dtypes = dtypes
        self._tolerance = tolerance
        self._notes = list(notes)
        self._on_step = on_step
        self._probes: list[Probe] = []
        self._limits: dict[tuple[str, torch.dtype | None], float] = {}
        self._is_given_up = threading.Event()

    def give_up(self) -> None:
        """Ends :meth:`choose` before its next step, with LoweringError."""
        self._is_given_up.set()

    def choose(self) -> LoweredModule:
        """The best candidate.

        Raises:
            LoweringError: None could be built and was right, with the reason of each.
        """
        self._step("running the model")
        self._probes = make_probes(self._request)
        tried = [self._try(backend, dtype) for dtype in self._dtypes for backend in self._backends]
        usable = [candidate for candidate in tried if isinstance(candidate, _Candidate)]
        if not usable:
            reports = [report for report in tried if isinstance(report, CandidateReport)]
            reasons = "; ".join(f"{report.name}: {report.reason}" for report in reports)
            raise LoweringError(
                f"the model must be one that a backend can lower; got {reasons}; give Task or "
                f"MultiStreamModule the model itself"
            )
        timings: dict[str, Timing] = {}
        best = usable[0]
        if self._is_timed or len(usable) > 1:
            self._step("measuring")
            timings = self._measure(usable)
            best = _best(usable, timings)
        report = LoweringReport(
            candidates=tuple(
                one
                if isinstance(one, CandidateReport)
                else one.report(timing=timings.get(one.name), is_chosen=one is best)
                for one in tried
            ),
            team_size=self._request.team_size,
            num_streams=self._request.num_streams,
            batch_sizes=self._request.batch_sizes,
            notes=tuple(self._notes),
            model_structure=model_structure(self._request.model),
        )
        return LoweredModule(best.artifact, report)

    def _step(self, text: str) -> None:
        if self._is_given_up.is_set():
            raise LoweringError(INTERRUPTED)
        self._on_step(text)

    def _try(self, backend: Backend, dtype: torch.dtype | None) -> _Candidate | CandidateReport:
        """A candidate if it is right, else the line in the report that says why not."""
        failed = CandidateReport(backend.name, _dtype_name(dtype), variant=backend.variant)
        name = failed.name
        self._step(f"{name}: building")
        notes: list[str] = []
        try:
            with warnings_as_notes() as notes:
                artifact = backend.build(replace(self._request, dtype=dtype))
            self._step(f"{name}: checking")
            task = Task(artifact, self._executor)
            difference = self._check(artifact, task, dtype=dtype)
        except OpenBatchError as error:
            is_only_one = len({each.name for each in self._backends}) == 1
            if is_only_one and self._request.dynamic_batch:
                self._keep_to_named_sizes(error)
                return self._try(backend, dtype)
            # Another backend may take any size.
            return replace(failed, reason=_first_line(error))
        except Exception as error:  # noqa: BLE001 (compilers raise anything)
            return replace(failed, reason=_first_line(error), notes=tuple(notes))
        candidate = _Candidate(
            name, backend.variant, dtype, artifact, task, difference, tuple(notes)
        )
        if not difference.is_within:
            return candidate.report(timing=None, is_chosen=False)
        return candidate

    def _keep_to_named_sizes(self, reason: OpenBatchError) -> None:
        self._notes.append(f"only the named batch sizes are taken: {_first_line(reason)}")
        self._request = replace(self._request, dynamic_batch=False)
        self._probes = make_probes(self._request)

    def _check(self, artifact: Artifact, task: Task, *, dtype: torch.dtype | None) -> Difference:
        """The worst difference over the probes, or the first that is too large."""
        specialises = hasattr(artifact, "specialise")
        worst = None
        for probe in self._probes:
            # On streams an unusual shape would be compiled for, for ever.
            on_stream = probe.is_usual or not specialises
            args, kwargs = probe.inputs.args, probe.inputs.kwargs
            actual = task.run_sync(*args, **kwargs) if on_stream else artifact.call(args, kwargs)
            found = probe.judge(actual, dtype=dtype, tolerance=self._limit(probe, dtype))
            if not found.is_within and dtype is None and self._tolerance is None:
                # Only then, and once for all: it takes the model in float64, which is slow.
                smallest = min(self._probes, key=lambda one: one.num_elements())
                own = self._limit_of(smallest, None)
                found = probe.judge(actual, dtype=None, tolerance=own)
            if not found.is_within:
                return replace(found, reason=f"wrong for {probe.name}: {found.reason}")
            if worst is None or found.error > worst.error:
                worst = found
        if worst is None:
            raise LoweringError("there must be a probe; got none; this is a mistake of corestream")
        return worst

    def _limit(self, probe: Probe, dtype: torch.dtype | None) -> float | None:
        """The caller's, or that of the dtype, which is wider where it was the caller's choice."""
        is_asked = dtype is not None and None not in self._dtypes
        if self._tolerance is not None or dtype is None or not is_asked:
            return self._tolerance
        return self._limit_of(probe, dtype)

    def _limit_of(self, probe: Probe, dtype: torch.dtype | None) -> float:
        key = probe.name, dtype
        if key not in self._limits:
            self._limits[key] = probe.limit_of(self._request.model, dtype=dtype)
        return self._limits[key]

    def _measure(self, usable: list[_Candidate]) -> dict[str, Timing]:
        """What a round takes in which each stream runs one of the largest batches, by name."""
        sizes = self._request.batch_sizes
        inputs = self._request.inputs.with_batch(max(sizes)) if sizes else self._request.inputs
        num_streams = self._executor.num_streams

        def run_everywhere(task: Task) -> None:
            for future in [inputs.call(task) for _ in range(num_streams)]:
                future.get()

        # What compiled on this thread left a team, which libgomp would count against the streams.
        release_idle_team()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CorestreamWarning)
            for candidate in usable:
                inputs.call(candidate.task.warm_up)
        self._notes += dict.fromkeys(str(warning.message) for warning in caught)
        calls = {one.name: functools.partial(run_everywhere, one.task) for one in usable}
        budget_s = _SECONDS_PER_CANDIDATE * len(calls)
        return compare_times(calls, rounds=_ROUNDS, budget_s=budget_s)


def _best(usable: list[_Candidate], timings: dict[str, Timing]) -> _Candidate:
    """The fastest; among those that are as fast within a hundredth, the one that costs least."""
    fastest = timings[min(timings, key=lambda name: timings[name].median_s)]
    ties = [one for one in usable if speedup(fastest, timings[one.name]) <= 1 + _TIE]
    return min(ties, key=_Candidate.cost)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    # The interpreter's own errors begin with a traceback.
    line = lines[-1] if "TorchScript interpreter" in lines[0] else lines[0]
    return f"{type(error).__name__}: {line}".rstrip(": ")


def _dtype_name(dtype: torch.dtype | None) -> str | None:
    return None if dtype is None else str(dtype).removeprefix("torch.")
