"""What tuning found: one line to use, a table, the trade-off between latency and throughput."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corestream.profiles.key import ProfileKey
from corestream.profiles.profile import Profile
from corestream.profiles.store import save_profile
from corestream.tuning.setting import STOCK, Setting, Trial

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

FORMAT = "corestream tuning"
VERSION = 1

_HEADER = ("", "backend", "streams", "team", "batch", "items/s", "p50 ms", "p99 ms", "n", "spread")
_LEFT = 2


@dataclass(frozen=True)
class TuneResult:
    """What :func:`corestream.tune` found; ``print(result)`` shows it as a table.

    Attributes:
        recommended: What to use; stock PyTorch where streams are not faster beyond noise.
        streams: The best with streams; None if none ran.
        verdict: How that compares with stock, in words.
        is_beyond_noise: Whether the difference is more than noise.
        is_met: Whether what is recommended kept to the objective's limit, where it has one.
        objective: What was wanted.
        load: How requests came, in words.
        trials: Every setting that was looked at, in order.
        key: For which machine and model it holds.
        budget_s: Seconds that there were.
        elapsed_s: Seconds that it took.
        notes: What is worth knowing, in words: what there was no time for, what failed.
        made: When, as ISO 8601.

    Thread-safe: a value that never changes.
    """

    recommended: Setting
    streams: Setting | None
    verdict: str
    is_beyond_noise: bool
    is_met: bool
    objective: str
    load: str
    trials: tuple[Trial, ...]
    key: ProfileKey
    budget_s: float
    elapsed_s: float
    notes: tuple[str, ...] = ()
    made: str = ""

    @property
    def profile(self) -> Profile | None:
        """What "AUTO" goes by on this machine for this model; None if no streams ran.

        Thread-safe; never changes.
        """
        if self.streams is None:
            return None
        return Profile(
            key=self.key,
            objective=self.objective,
            num_streams=self.streams.num_streams,
            team_size=self.streams.team_size,
            batch_size=self.streams.batch_size,
            backend=self.streams.backend,
            is_stock_best=self.recommended.is_stock,
            verdict=self.verdict,
            made=self.made,
        )

    @property
    def measured(self) -> tuple[Trial, ...]:
        """The trials that were measured.

        Thread-safe; never changes.
        """
        return tuple(trial for trial in self.trials if trial.measurements)

    @property
    def pareto(self) -> tuple[Trial, ...]:
        """Those that none beats in both throughput and latency, from low latency to high.

        Thread-safe; never changes.
        """
        return pareto_front(self.measured)

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Saves the profile, where "AUTO" finds it.

        Args:
            path: Another file, to be given as ``profile=``.

        Returns:
            The file.

        Raises:
            OSError: It cannot be written.
            ValueError: No setting with streams ran, so that there is no profile.

        Thread-safe, and safe beside other processes; holds the GIL.
        """
        if self.profile is None:
            raise ValueError(
                f"the result must have a setting with streams to be saved; got none: "
                f"{self.verdict}; see result.notes"
            )
        return save_profile(self.profile, path)

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draws latency against throughput, with the front and what is recommended.

        Args:
            path: Where to; the ending, .png or .svg, says what.

        Returns:
            The file.

        Raises:
            ModuleNotFoundError: matplotlib is missing: install corestream[plot].
            ValueError: The ending is another.
            OSError: It cannot be written.

        Thread-safe; draws with the GIL held.
        """
        from corestream.tuning.plot import plot_trials

        return plot_trials(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """As values for JSON, with the format's version.

        Returns:
            Nested dicts and lists.

        Thread-safe; a pure function that holds the GIL.
        """
        profile = self.profile
        return {
            "format": FORMAT,
            "version": VERSION,
            **asdict(self),
            "line": str(self.recommended),
            "pareto": [str(trial.setting) for trial in self.pareto],
            "profile": profile and profile.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Any) -> TuneResult:
        """What :meth:`to_dict` wrote, also after a way through JSON.

        Args:
            values: What JSON gave.

        Returns:
            An equal result.

        Raises:
            ValueError: It is something else, or of a version that is not known here.

        Thread-safe; a pure function that holds the GIL.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"values must say format {FORMAT!r}; got something else")
        if values.get("version") != VERSION:
            raise ValueError(f"version must be {VERSION}; got {values.get('version')!r}")
        try:
            streams = values["streams"]
            read = {name: values[name] for name in cls.__dataclass_fields__}
            read |= {
                "recommended": Setting(**values["recommended"]),
                "streams": None if streams is None else Setting(**streams),
                "trials": tuple(Trial.from_dict(one) for one in values["trials"]),
                "key": ProfileKey.from_dict(values["key"]),
                "notes": tuple(values["notes"]),
            }
            return cls(**read)
        except (KeyError, TypeError) as error:
            raise ValueError(f"values must be a tuning result; got {error!r}") from error

    def to_json(self) -> str:
        """The result as JSON.

        Returns:
            What :meth:`from_json` reads.

        Thread-safe; a pure function that holds the GIL.
        """
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> TuneResult:
        """What :meth:`to_json` wrote.

        Args:
            text: The JSON.

        Returns:
            An equal result.

        Raises:
            ValueError: It is no JSON, or something else.

        Thread-safe; a pure function that holds the GIL.
        """
        return cls.from_dict(json.loads(text))

    def _rows(self, *, most: int = 12) -> list[tuple[str, ...]]:
        """The finalists, the front and the best others, by throughput."""
        front = set(self.pareto)
        ranked = sorted(self.measured, key=lambda one: -one.items_per_s)
        chosen = [one for one in ranked if one.is_finalist or one in front or one.setting.is_stock]
        chosen += [one for one in ranked if one not in chosen][: max(0, most - len(chosen))]
        rows: list[tuple[str, ...]] = []
        for one in sorted(chosen, key=lambda one: -one.items_per_s):
            mark = "*" if one.setting == self.recommended else "|" if one in front else ""
            spread = f"{one.spread:.0%}" if len(one.measurements) > 1 else ""
            rows.append(
                (
                    mark,
                    one.setting.backend,
                    "" if one.setting.is_stock else str(one.setting.num_streams),
                    str(one.setting.team_size),
                    str(one.setting.batch_size),
                    f"{one.items_per_s:.4g}",
                    f"{one.p50_ms:.4g}",
                    f"{one.p99_ms:.4g}",
                    str(len(one.measurements)),
                    spread,
                )
            )
        return rows

    def _summary(self) -> list[str]:
        left = len(self.measured) - len(self._rows())
        lines = [f"{left} more settings were measured, see to_dict()"] if left > 0 else []
        lines.append("* recommended; | on the front of throughput and latency")
        lines += [f"note: {note}" for note in self.notes]
        return [*lines, f"{self.objective}: {self.recommended}", self.verdict]

    def __str__(self) -> str:
        rows = [_HEADER, *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < _LEFT else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *self._summary()])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        title = f"{self.objective}, {self.load}"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column, heading in enumerate(_HEADER):
            table.add_column(heading, justify="left" if column < _LEFT else "right")
        for row in self._rows():
            style = {"*": "bold green", "|": "cyan"}.get(row[0], "")
            table.add_row(*row, style="yellow" if row[1] == STOCK else style)
        yield table
        *details, line, verdict = self._summary()
        for detail in details:
            yield Text(detail, style="dim")
        yield Text(line, style="bold")
        yield Text(verdict)


def pareto_front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Those that no other beats in both throughput and median latency, from low latency to high."""
    front: list[Trial] = []
    best = 0.0
    for trial in sorted(trials, key=lambda one: (one.p50_ms, -one.items_per_s)):
        if trial.items_per_s > best:
            front.append(trial)
            best = trial.items_per_s
    return tuple(front)
