"""What lowering tried, what each way cost and gave, and which was kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

_MIB = 2**20


@dataclass(frozen=True)
class CandidateReport:
    """One way of lowering that was tried.

    Attributes:
        backend: "aotinductor", "torchscript" or "eager".
        dtype: What it computes in, such as "bfloat16"; None: as the model does.
        reason: Why it was not built or must not be used; empty if it may be.
        error: Difference to the model's own outputs, as `corestream.measure.compare` gives it;
            None if it was not built.
        error_limit: What the difference may be.
        median_ms: Milliseconds of a round in which every stream runs one batch, all at once; None
            if it was not measured.
        p10_ms: A tenth of the rounds were faster.
        p90_ms: A tenth of the rounds were slower.
        weight_bytes: What the weights take, once for all streams.
        extra_bytes: What specialisations take beside them.
        holds_gil: Whether streams take turns; None if it was not built.
        is_chosen: Whether it was kept.
        notes: What else is worth knowing.
        variant: What sets it apart from another of the same backend and dtype: "own layers"
            for corestream's kernels; empty for the plain one.

    Thread-safe: a value that never changes.
    """

    backend: str
    dtype: str | None
    reason: str = ""
    error: float | None = None
    error_limit: float | None = None
    median_ms: float | None = None
    p10_ms: float | None = None
    p90_ms: float | None = None
    weight_bytes: int = 0
    extra_bytes: int = 0
    holds_gil: bool | None = None
    is_chosen: bool = False
    notes: tuple[str, ...] = ()
    variant: str = ""

    @property
    def name(self) -> str:
        """Backend, dtype and variant, as tables and errors have it.

        Thread-safe; never changes.
        """
        name = f"{self.backend} {self.dtype}" if self.dtype else self.backend
        return f"{name}, {self.variant}" if self.variant else name

    @property
    def is_built(self) -> bool:
        """Whether there was something to run.

        Thread-safe; never changes.
        """
        return self.holds_gil is not None

    def _cells(self) -> tuple[str, ...]:
        mark = "*" if self.is_chosen else ""
        name = self.name
        if not self.is_built:
            return mark, name, "", "", "", "", "", self.reason
        time = spread = ""
        if self.median_ms is not None:
            time, spread = f"{self.median_ms:.3f}", f"{self.p10_ms:.3f}-{self.p90_ms:.3f}"
        error = "" if self.error is None else f"{self.error:.1e}"
        weights = f"{self.weight_bytes / _MIB:.1f}+{self.extra_bytes / _MIB:.1f}"
        gil = "yes" if self.holds_gil else "no"
        return mark, name, time, spread, error, weights, gil, self.reason

    def _notes(self) -> list[str]:
        name = f"{self.backend} {self.dtype}" if self.dtype else self.backend
        return [f"note: {name}: {note}" for note in self.notes]


_HEADER = ("", "backend", "ms", "p10-p90", "error", "weights MiB", "GIL", "not used because")


@dataclass(frozen=True)
class LoweringReport:
    """What :func:`corestream.lower` did; ``print(lowered.report)`` shows it as a table.

    Attributes:
        candidates: The ways that were tried, in the order of trying.
        team_size: Threads of a stream, for which the model was lowered.
        num_streams: Streams that it was measured on.
        batch_sizes: Sizes of dim 0 that are fast; empty if the inputs have no batch.
        notes: What concerns all candidates.
        model_structure: Hash of what the model is apart from its weights: profiles of the model
            hold for what was lowered from it.

    Thread-safe: a value that never changes.
    """

    candidates: tuple[CandidateReport, ...]
    team_size: int
    num_streams: int
    batch_sizes: tuple[int, ...]
    notes: tuple[str, ...] = ()
    model_structure: str = ""

    @property
    def chosen(self) -> CandidateReport:
        """The candidate that was kept.

        Thread-safe; never changes.
        """
        return next(candidate for candidate in self.candidates if candidate.is_chosen)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON.

        Returns:
            Nested dicts and lists.

        Thread-safe; a pure function that holds the GIL.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LoweringReport:
        """The report that :meth:`to_dict` wrote, also after a way through JSON.

        Args:
            values: What :meth:`to_dict` returned.

        Returns:
            An equal report.

        Thread-safe; a pure function that holds the GIL.
        """
        candidates = tuple(
            CandidateReport(**{**candidate, "notes": tuple(candidate["notes"])})
            for candidate in values["candidates"]
        )
        sizes, notes = tuple(values["batch_sizes"]), tuple(values["notes"])
        return cls(**{**values, "candidates": candidates, "batch_sizes": sizes, "notes": notes})

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.batch_sizes)) or "as in the example"
        lines = [
            f"lowered for {self.num_streams} streams of {self.team_size} cores; batch sizes {sizes}"
        ]
        rows = [_HEADER, *(candidate._cells() for candidate in self.candidates)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER) - 1)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            lines.append("  ".join([*cells, row[-1]]).rstrip())
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(
            [*lines, *(note for candidate in self.candidates for note in candidate._notes())]
        )
