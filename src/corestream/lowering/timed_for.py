"""What kernels are timed for while a model is lowered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from corestream.measure.inputs import ModelInputs


@dataclass(frozen=True)
class TimedFor:
    """A stream, and how much it is given at a time.

    Attributes:
        team_size: Threads of the stream.
        batch: Items of its calls, if the inputs that the model is traced with have as many as the
            next says; a batch of one is traced as two.
        traced_batch: Items of those inputs.
    """

    team_size: int
    batch: int = 1
    traced_batch: int = 1

    @classmethod
    def of(cls, team_size: int, *, batch: int | None, traced: ModelInputs) -> Self:
        """For calls with that batch; None: as large as what is traced.

        Args:
            team_size: Threads of the stream.
            batch: Items of its calls.
            traced: What the model is traced with.
        """
        traced_batch = traced.batch_size()
        if batch is None or traced_batch is None:
            return cls(team_size)
        return cls(team_size, batch=batch, traced_batch=traced_batch)

    def count(self, traced: int) -> int:
        """Images or rows of a call, of those that the traced one has."""
        return max(1, traced * self.batch // self.traced_batch)
