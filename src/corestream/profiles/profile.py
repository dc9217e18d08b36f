"""What `tune` found for one model on one machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from corestream.profiles.key import ProfileKey

FORMAT = "corestream profile"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The best setting of streams for one model on one machine, and whether it is worth it.

    Attributes:
        key: For which machine and model it holds.
        objective: What was wanted: "throughput", "latency" or "p99<=20 ms".
        num_streams: How many streams.
        team_size: Cores of each.
        batch_size: Items that a stream runs at a time.
        backend: What the model was lowered with.
        is_stock_best: The model as it is, unpinned, was faster than any streams, or no slower
            beyond noise.
        verdict: What came of the comparison with it, in words.
        made: When, as ISO 8601.

    Example:
        >>> key = ProfileKey(cpu_model="A", cpus="0-3", torch="2.13.0", model="ab")
        >>> profile = Profile(
        ...     key=key, objective="throughput", num_streams=2, team_size=2, batch_size=8,
        ...     backend="torchscript", is_stock_best=False, verdict="1.4 times stock", made="",
        ... )
        >>> Profile.from_dict(profile.to_dict()) == profile
        True

    Thread-safe: a value that never changes.
    """

    key: ProfileKey
    objective: str
    num_streams: int
    team_size: int
    batch_size: int
    backend: str
    is_stock_best: bool
    verdict: str
    made: str

    def to_dict(self) -> dict[str, Any]:
        """As values for JSON, with the format's version.

        Returns:
            Nested dicts.

        Thread-safe; a pure function that holds the GIL.
        """
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Any) -> Profile:
        """What :meth:`to_dict` wrote, also after a way through JSON.

        Args:
            values: What JSON gave.

        Returns:
            An equal profile.

        Raises:
            ValueError: It is something else, damaged, or of a version that is not known here.

        Thread-safe; a pure function that holds the GIL.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"a profile must say format {FORMAT!r}; got something else")
        if values.get("version") != VERSION:
            raise ValueError(
                f"a profile must have version {VERSION}; got {values.get('version')!r}; tune again"
            )
        read: dict[str, Any] = {"key": ProfileKey.from_dict(values.get("key"))}
        for name, kind in _KINDS.items():
            value = values.get(name)
            if type(value) is not kind:
                raise ValueError(f"{name} must be a {kind.__name__}; got {value!r}; tune again")
            read[name] = value
        if min(read["num_streams"], read["team_size"], read["batch_size"]) < 1:
            raise ValueError("streams, team sizes and batches must be at least 1; tune again")
        return cls(**read)


_KINDS: dict[str, type] = {
    "objective": str,
    "num_streams": int,
    "team_size": int,
    "batch_size": int,
    "backend": str,
    "is_stock_best": bool,
    "verdict": str,
    "made": str,
}
