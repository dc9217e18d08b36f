"""What `optimize` did to a model, what it left alone, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class PassReport:
    """What came of one pass, or of one part of it.

    Attributes:
        name: The pass's knob, with the part behind a colon where the parts are judged apart.
        done: Names of the modules that are changed now.
        skipped: Why other modules, by name, were left as they are.
        speedup: How many times as fast the model is by this pass; None if it was not measured.
        error: The largest difference of the outputs from the original model's, as
            `corestream.measure.compare` defines it; None if it was not measured.
        rolled_back: Why everything this pass did was undone; None if it was not.
        note: What else there is to say.
    """

    name: str
    done: tuple[str, ...] = ()
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    speedup: float | None = None
    error: float | None = None
    rolled_back: str | None = None
    note: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to do and nothing to say."""
        return not (self.done or self.skipped or self.rolled_back or self.note)


@dataclasses.dataclass(frozen=True)
class OptimizeReport:
    """What `optimize` did. `print` shows it as a table.

    Attributes:
        level: "O0" or "O1".
        dtype: What the products are computed in, such as "float32".
        passes: One entry for each pass that was on, in the order they ran.
        off: Names of the passes that were off.
        notes: What holds for the whole.
    """

    level: str
    dtype: str
    passes: tuple[PassReport, ...]
    off: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> PassReport:
        """The entry of that pass; where its parts were judged apart, what came of all of them.

        Raises:
            KeyError: There is none: the pass was off, or has no such name.
        """
        found = [e for e in self.passes if e.name == name or e.name.startswith(f"{name}: ")]
        if not found:
            raise KeyError(name)
        return found[0] if len(found) == 1 else _together(name, found)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as ``json.dumps`` takes it."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        rows = [("pass", "modules", "speed-up", "error", "result")]
        rows += [_row(entry) for entry in self.passes]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [f"optimize, level {self.level}, {self.dtype}"]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
            lines.append("  ".join(cells).rstrip())
        if self.off:
            lines.append(f"off: {', '.join(self.off)}")
        for entry in self.passes:
            lines += [f"left alone by {entry.name}: {text}" for text in _by_reason(entry.skipped)]
        return "\n".join([*lines, *self.notes])


def _together(name: str, parts: Sequence[PassReport]) -> PassReport:
    """One entry for several: rolled back only if nothing of it stayed."""
    done = tuple(each for part in parts for each in part.done)
    undone = [part.rolled_back for part in parts if part.rolled_back]
    errors = [part.error for part in parts if part.error is not None]
    notes = [part.note for part in parts if part.note]
    return PassReport(
        name,
        done,
        {key: reason for part in parts for key, reason in part.skipped.items()},
        error=max(errors, default=None),
        rolled_back="; ".join(undone) if undone and not done else None,
        note="; ".join(dict.fromkeys(notes)) or None,
    )


def _row(entry: PassReport) -> tuple[str, str, str, str, str]:
    result = entry.rolled_back and f"rolled back: {entry.rolled_back}"
    left = "left alone" if entry.skipped else "nothing to do"
    result = result or ("done" if entry.done else left)
    if entry.note:
        result += f"; {entry.note}"
    return (
        entry.name,
        str(len(entry.done)),
        "" if entry.speedup is None else f"{entry.speedup:.2f}",
        "" if entry.error is None else f"{entry.error:.1e}",
        result,
    )


def _by_reason(skipped: Mapping[str, str]) -> list[str]:
    """One line a reason: a model has hundreds of layers and few reasons."""
    names: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        names.setdefault(reason, []).append(name)
    return [
        f"{', '.join(found[:3])}{f' and {len(found) - 3} more' if len(found) > 3 else ''}: {reason}"
        for reason, found in names.items()
    ]
