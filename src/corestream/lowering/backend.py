"""What a way of lowering takes and gives: the contract between the chooser and the backends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import torch
    from torch import nn

    from corestream.measure.inputs import ModelInputs


class OpenBatchError(ValueError):
    """The model can be lowered for batch sizes that are known, and not for any size."""


@dataclass(frozen=True)
class LoweringRequest:
    """A model, and the streams that it is lowered for.

    Attributes:
        model: The user's model, in eval mode. Backends copy what they change.
        inputs: Example inputs, on the CPU.
        dtype: What to compute in; None: as the model does. Inputs and outputs of what is built
            keep the model's own dtypes.
        team_size: Threads of a stream's parallel regions.
        num_streams: How many streams run the model at once.
        dynamic_batch: Any size of dim 0 must give right results; False: those named only.
        batch_sizes: Sizes of dim 0 that must be fast, ascending. Empty
            if the inputs have no common dim 0.

    Thread-safe: a value that never changes.
    """

    model: nn.Module
    inputs: ModelInputs
    dtype: torch.dtype | None
    team_size: int
    num_streams: int
    dynamic_batch: bool
    batch_sizes: tuple[int, ...]


class Artifact(Protocol):
    """A lowered model, as one backend makes it.

    Attributes:
        backend: The name of the backend.
        weight_bytes: What the weights take, once for all streams.
        extra_bytes: What comes on top for specialisations: prepacked copies for each batch size
            or team size; 0 if the weights exist once whatever is run.
        holds_gil: Whether streams that run it take turns.
        notes: Facts for the report: what was specialised, what a tool warned of.
    """

    backend: str
    weight_bytes: int
    extra_bytes: int
    holds_gil: bool
    notes: tuple[str, ...]

    def callee_source(self) -> Any:
        """What ``runtime.callee.make_callee`` takes, or the native callee itself."""

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the model on the calling thread. Any number of threads may."""

    def write(self, folder: Path) -> None:
        """Writes what :meth:`read` needs into an empty folder."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The artifact that :meth:`write` wrote, without compiling."""


class Backend(Protocol):
    """A way of lowering.

    Attributes:
        name: As ``lower(backend=...)`` takes it.
        variant: What sets it apart from another of that name; empty for the plain one.
    """

    name: str
    variant: str

    def build(self, request: LoweringRequest) -> Artifact:
        """Lowers the model for the request's streams.

        Called on a thread that ends, under the process-wide lock of `lower`, in grad mode "off".
        Raises whatever stands in the way; the chooser records it and takes the next backend.
        """
