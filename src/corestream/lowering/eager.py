"""The model as Python runs it, optimized: what always works."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from corestream.lowering.backend import LoweringRequest

_MODEL = "model.pt"
_NOT_MEASURED = 'its passes were not measured one by one, which backend="eager" does'


class EagerArtifact:
    """An nn.Module whose layers are folded and prepacked. It holds the GIL between operators."""

    backend = "eager"
    holds_gil = True
    extra_bytes = 0

    def __init__(self, model: nn.Module, *, notes: tuple[str, ...] = ()) -> None:
        self.notes = notes
        self.weight_bytes = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
        self._model = model

    def callee_source(self) -> Any:
        """A bound method, not the module: that it holds the GIL is in the report."""
        return self._run

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the model on the calling thread."""
        return self._run(*args, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return self._model(*args, **kwargs)

    def write(self, folder: Path) -> None:
        """Pickles the module."""
        torch.save(self._model, folder / _MODEL)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Unpickles the module, which runs the code that the file names."""
        return cls(torch.load(folder / _MODEL, weights_only=False))


class EagerBackend:
    """The backend of that name.

    Args:
        measures_passes: Time the model after each pass and undo those that do not pay. That takes
            minutes for large models (ViT-B/16, batch 8, one core: 2), and beside compiled
            candidates an eager one hardly wins.
    """

    name = "eager"
    variant = ""

    def __init__(self, *, measures_passes: bool) -> None:
        self._measures_passes = measures_passes

    def build(self, request: LoweringRequest) -> EagerArtifact:
        """Optimizes a copy of the model."""
        from corestream.optimization.api import optimize

        inputs = request.inputs if self._measures_passes else None
        optimized = optimize(request.model, request.dtype, example_inputs=inputs)
        return EagerArtifact(optimized, notes=() if self._measures_passes else (_NOT_MEASURED,))
