"""The outcome: findings in the order of the screen, with what to make of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from corestream.doctor.facts import Facts
from corestream.doctor.finding import Finding, Level, worst


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        subject: What was looked at, in words.
        findings: One for each check that applies, in the order of the screen.
        facts: What they were judged by.

    Example:
        >>> from corestream.doctor import diagnose
        >>> diagnose().finding("allowed CPUs").level.name
        'OK'

    Thread-safe: a value that never changes.
    """

    subject: str
    findings: tuple[Finding, ...]
    facts: Facts

    @property
    def level(self) -> Level:
        """The worst level of all findings."""
        return worst(self.findings)

    @property
    def is_ok(self) -> bool:
        """Whether nothing is worse than a note."""
        return self.level <= Level.NOTE

    def finding(self, title: str) -> Finding:
        """Return the finding of that title.

        Raises:
            ValueError: There is none: the title is unknown, or the check does not apply here.
        """
        for finding in self.findings:
            if finding.title == title:
                return finding
        titles = ", ".join(f.title for f in self.findings)
        raise ValueError(f"title must be one of {titles}; got {title!r}; see Diagnosis.findings")

    def count(self, level: Level) -> int:
        """Return how many findings have that level."""
        return Counter(finding.level for finding in self.findings)[level]

    def exit_code(self, *, strict: bool = False) -> int:
        """Return the exit status for scripts: 1 if something is broken, else 0.

        Args:
            strict: A warning counts, too.
        """
        return int(self.level >= (Level.WARN if strict else Level.FAIL))

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain data for JSON; what `corestream doctor --json` prints."""
        torch, products = self.facts.torch, self.facts.products
        return {
            "subject": self.subject,
            "level": self.level.name,
            "findings": [
                asdict(finding) | {"level": finding.level.name} for finding in self.findings
            ],
            "environment": dict(self.facts.environ),
            "torch": None if torch is None else asdict(torch),
            "products": {name: asdict(product) for name, product in (products or {}).items()},
        }

    def __str__(self) -> str:
        from corestream.doctor.report import render

        return render(self)
