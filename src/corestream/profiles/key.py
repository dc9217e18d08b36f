"""For which machine and model a profile holds."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Self

_WORDS = {
    "cpu_model": "the CPU model",
    "cpus": "the CPUs",
    "torch": "the torch version",
    "model": "the model's structure",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileKey:
    """What must be the same where a profile is used as where it was made.

    Attributes:
        cpu_model: What the CPU calls itself.
        cpus: The CPUs of the pool that was tuned on, as a cpulist.
        torch: The version of torch.
        model: Hash of the model's structure; weights may differ.

    Example:
        >>> here = ProfileKey(cpu_model="A", cpus="0-3", torch="2.13.0", model="ab")
        >>> there = ProfileKey(cpu_model="B", cpus="0-3", torch="2.13.0", model="ab")
        >>> there.differences(here)
        ["the CPU model is 'A' here and 'B' in the profile"]

    Thread-safe: a value that never changes.
    """

    cpu_model: str
    cpus: str
    torch: str
    model: str

    def differences(self, here: ProfileKey) -> list[str]:
        """What differs between this key, a profile's, and the one of here, in words.

        Args:
            here: The key of this machine and model.

        Returns:
            Empty if the profile may be used here.

        Thread-safe; a pure function that holds the GIL.
        """
        theirs, ours = asdict(self), asdict(here)
        return [
            f"{words} is {ours[name]!r} here and {theirs[name]!r} in the profile"
            if name != "cpus"
            else f"{words} are {ours[name]!r} here and {theirs[name]!r} in the profile"
            for name, words in _WORDS.items()
            if theirs[name] != ours[name]
        ]

    def digest(self) -> str:
        """What names the key's file.

        Returns:
            16 hex digits.

        Thread-safe; a pure function that holds the GIL.
        """
        text = "\n".join(f"{name}={value}" for name, value in sorted(asdict(self).items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The key from what JSON gave.

        Args:
            values: A dict with the four texts.

        Returns:
            The key.

        Raises:
            ValueError: Something is missing or of another type.

        Thread-safe; a pure function that holds the GIL.
        """
        if not isinstance(values, dict) or not all(
            isinstance(values.get(name), str) for name in _WORDS
        ):
            raise ValueError(f"key must have the texts {', '.join(_WORDS)}; got {values!r}")
        return cls(**{name: values[name] for name in _WORDS})
