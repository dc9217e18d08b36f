"""What `lower` returns: a module that streams run."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from corestream.errors import CorestreamWarning
from corestream.lowering.backend import Artifact
from corestream.lowering.report import LoweringReport
from corestream.measure.inputs import ModelInputs


class LoweredModule(nn.Module):
    """A model that was lowered; :class:`Task` and :class:`MultiStreamModule` take it.

    Called as it is, it runs on the calling thread. It has no parameters to train, and is never
    changed, so that copies of it are itself.

    Attributes:
        report: What was tried, and what it cost and gave.

    Example:
        >>> import corestream, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU()).eval()
        >>> lowered = corestream.lower(model, torch.rand(2, 4), backend="torchscript")
        >>> lowered(torch.rand(3, 4)).shape
        torch.Size([3, 2])

    Thread-safe; whether calls hold the GIL is in ``report.chosen.holds_gil``.
    """

    def __init__(self, artifact: Artifact, report: LoweringReport) -> None:
        super().__init__()
        self.report = report
        self._artifact = artifact
        self.eval()

    @property
    def backend(self) -> str:
        """The backend that was kept: "aotinductor", "torchscript" or "eager".

        Thread-safe; never changes.
        """
        return self._artifact.backend

    @property
    def artifact(self) -> Artifact:
        """What the backend made.

        Thread-safe; never changes.
        """
        return self._artifact

    @property
    def team_size(self) -> int:
        """Threads of the streams that it was lowered for.

        Thread-safe; never changes.
        """
        return self.report.team_size

    @property
    def model_structure(self) -> str:
        """Hash of what the model is apart from its weights, by which profiles of it are found.

        Thread-safe; never changes.
        """
        return self.report.model_structure

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the model on the calling thread.

        Args:
            *args: The model's positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What the model would return, without gradients.

        Thread-safe; AOTInductor and the eager model hold the GIL here, TorchScript does not.
        """
        return self._artifact.call(args, kwargs)

    def callee_source(self) -> Any:
        """What a stream calls instead of this module.

        Returns:
            A ScriptModule, a package's path, a callable, or a native callee.

        Thread-safe; holds the GIL.
        """
        return self._artifact.callee_source()

    def specialise(self, run: Callable[[ModelInputs], Any], *, team_size: int) -> None:
        """Compiles for streams of a team size what is compiled by running it.

        Tasks and MultiStreamModules do it when they are made.

        Args:
            run: Calls the callee on such a stream until first-call costs are paid.
            team_size: Threads of the stream.

        Thread-safe: one thread compiles, others wait.
        """
        specialise = getattr(self._artifact, "specialise", None)
        if specialise is not None:
            specialise(run, team_size=team_size)
        elif team_size != self.team_size and not self._artifact.holds_gil:
            warnings.warn(
                f"streams must have teams of {self.team_size}, for which the model was compiled; "
                f"got one of {team_size}; lower it with team_size={team_size}",
                CorestreamWarning,
                stacklevel=4,
            )

    def specialising(self) -> AbstractContextManager[Any]:
        """A scope in which input shapes that are run become fast, where running compiles.

        ``warm_up`` of Tasks and MultiStreamModules runs in it.

        Returns:
            A context manager.

        Thread-safe; several threads may be in it.
        """
        specialising = getattr(self._artifact, "specialising", nullcontext)
        scope: AbstractContextManager[Any] = specialising()
        return scope

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the lowered model to one file, for :func:`corestream.load`.

        Args:
            path: Where to.

        Returns:
            The path.

        Raises:
            OSError: It cannot be written.

        Thread-safe; writes with the GIL held.
        """
        from corestream.lowering.saved import save

        return save(self, path)

    def extra_repr(self) -> str:
        """What ``repr`` shows.

        Returns:
            The backend and the streams it was lowered for.

        Thread-safe; never changes.
        """
        return f"backend={self.backend!r}, team_size={self.team_size}"

    def __deepcopy__(self, memo: dict[int, Any]) -> LoweredModule:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        with tempfile.TemporaryDirectory() as folder:
            return _from_bytes, (self.save(Path(folder, "model")).read_bytes(),)


def _from_bytes(data: bytes) -> LoweredModule:
    from corestream.lowering.saved import load

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        path.write_bytes(data)
        return load(path, allow_pickle=True)  # who unpickles this has agreed to pickles
