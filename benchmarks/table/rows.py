"""Which rows there are, and measuring one: prepare the model, hold the contest, keep the result."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import CPUTime, computes_bf16, describe, now
from benchmarks.table.contest import Effort, Show, measure
from benchmarks.table.entrants import PEAK, PEAK_ENTRANT, Entrant
from benchmarks.table.job import Job, Mode
from benchmarks.table.process import prepare_model
from benchmarks.zoo import MODELS

NO_BF16 = "the CPU has no bf16 instructions (neither AVX-512 BF16 nor AMX), so bf16 is emulated"


@dataclass(frozen=True, slots=True)
class Row:
    """A model in one mode and one dtype."""

    model: str
    mode: Mode
    dtype: str

    @property
    def batch(self) -> int:
        return 1 if self.mode == "latency" else MODELS[self.model].batch

    @property
    def file_name(self) -> str:
        return f"{_plain(self.model)}-{self.mode}-{self.dtype}.json"


def _plain(name: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in name.lower())


class Bench:
    """Measures rows of one machine, model by model, and keeps each in a file.

    Args:
        results: Folder for the rows.
        entrants: Who takes part.
        core_ids: Where.
        effort: How long.
        show: Is told what goes on.
    """

    def __init__(
        self,
        results: Path,
        *,
        entrants: Mapping[str, Entrant],
        core_ids: Sequence[int],
        effort: Effort,
        show: Show,
    ) -> None:
        self._results, self._entrants = results, entrants
        self._core_ids, self._effort, self._show = list(core_ids), effort, show

    def measure(self, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """Measures the rows, all of one model after one another."""
        self._results.mkdir(parents=True, exist_ok=True)
        for model in dict.fromkeys(row.model for row in rows):
            own = [row for row in rows if row.model == model]
            with tempfile.TemporaryDirectory(prefix="table-", dir=self._results) as folder:
                if any(_why_not(row) is None for row in own):
                    self._prepare(own, Path(folder))
                for row in own:
                    result = self._measure_row(row, Path(folder))
                    text = json.dumps(result, indent=1, ensure_ascii=False)
                    (self._results / row.file_name).write_text(text + "\n")
                    yield result

    def _prepare(self, rows: Sequence[Row], folder: Path) -> None:
        self._show(f"{rows[0].model}: preparing weights and expected outputs")
        dtypes, batches = (row.dtype for row in rows), (row.batch for row in rows)
        prepare_model(rows[0].model, folder, dtypes=dtypes, batches=batches)

    def _measure_row(self, row: Row, folder: Path) -> dict[str, Any]:
        spec = MODELS[row.model]
        result: dict[str, Any] = {
            "model": row.model,
            "mode": row.mode,
            "dtype": row.dtype,
            "kind": spec.kind,
            "unit": spec.unit,
            "batch": row.batch,
            "num_cores": len(self._core_ids),
            "time": now(),
            "machine": describe(),
        }
        skipped = _why_not(row)
        if skipped is not None:
            return result | {"skipped": skipped}
        job = Job(
            model=row.model,
            mode=row.mode,
            dtype=row.dtype,
            batch=row.batch,
            core_ids=self._core_ids,
            num_streams=1 if row.mode == "latency" else min(len(self._core_ids), row.batch),
            folder=str(folder),
            around=list(self._effort.around),
        )
        before = CPUTime.read()
        found = measure(
            _taking_part(self._entrants, row),
            job,
            effort=self._effort,
            logs=folder,
            show=lambda text: self._show(f"{row.model} {row.mode} {row.dtype}: {text}"),
        )
        peak = found.pop(PEAK).get("seconds", [])
        return result | {
            "stolen": CPUTime.read().stolen_since(before),
            "flops": job.facts()["flops"],
            "peak": [1e9 / seconds for seconds in peak],
            "entrants": found,
        }


def _taking_part(entrants: Mapping[str, Entrant], row: Row) -> dict[str, Entrant]:
    own = {
        name: entrant
        for name, entrant in entrants.items()
        if row.mode in entrant.modes and row.dtype in entrant.dtypes
    }
    return own | {PEAK: PEAK_ENTRANT}


def _why_not(row: Row) -> str | None:
    return NO_BF16 if row.dtype == "bf16" and not computes_bf16() else None


def load_rows(results: Path) -> list[dict[str, Any]]:
    """The rows that were measured, in the order of the models."""
    rows = [json.loads(path.read_text()) for path in results.glob("*.json")]
    order = list(MODELS)
    return sorted(rows, key=lambda row: (row["mode"], row["dtype"], order.index(row["model"])))
