"""Lowered models in files: what was compiled once runs in other processes without a compiler."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from corestream.errors import ModelFileError
from corestream.lowering.archive import read_archive, write_archive
from corestream.lowering.model import LoweredModule
from corestream.lowering.report import LoweringReport

if TYPE_CHECKING:
    from corestream.lowering.backend import Artifact

__all__ = ["load", "save"]


def load(path: str | os.PathLike[str], *, allow_pickle: bool = False) -> LoweredModule:
    """Loads a model that :meth:`LoweredModule.save` wrote, in seconds and without compiling.

    A lowered model is code: AOTInductor's part of it is a shared library, which the process will
    run. Load only files from people whose programs you would run.

    Args:
        path: The file.
        allow_pickle: Also take a model of the eager backend, which is a pickle.

    Returns:
        The module as it was saved, its report included.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read, or its contents not be put into a temporary folder.
        ModelFileError: It is damaged, something else, or made for another torch or CPU; or it
            needs `allow_pickle`. The text says what differs and what to do.

    Example:
        >>> import corestream, tempfile, torch
        >>> model = torch.nn.Linear(4, 2).eval()
        >>> lowered = corestream.lower(model, torch.rand(3, 4), backend="torchscript")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = corestream.load(lowered.save(folder + "/model.pt2"))
        >>> again(torch.rand(5, 4)).shape
        torch.Size([5, 2])

    Thread-safe; holds the GIL.
    """
    artifact, facts = read_archive(Path(path), allow_pickle=allow_pickle)
    try:
        report = LoweringReport.from_dict(facts["report"])
    except (KeyError, TypeError) as error:
        raise ModelFileError(
            f"path must be a file that LoweredModule.save() wrote; got {str(path)!r}, an entry of "
            f"the cache or a file without a report ({error!r}); save the lowered model"
        ) from error
    return LoweredModule(artifact, report)


def save(lowered: LoweredModule, path: str | os.PathLike[str]) -> Path:
    """Writes `lowered` to `path`, at once or not at all, and returns the path.

    Args:
        lowered: What :func:`corestream.lower` returned.
        path: Where to. The name may end in anything; C++ programs and torch's own loader take the
            file of a model of the AOTInductor backend as a package.

    Returns:
        `path`.

    Raises:
        OSError: It cannot be written.

    Example:
        >>> import corestream, tempfile, torch
        >>> model = torch.nn.Linear(4, 2).eval()
        >>> lowered = corestream.lower(model, torch.rand(3, 4), backend="torchscript")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(lowered, folder + "/model.pt2").name
        'model.pt2'

    Thread-safe; holds the GIL.
    """
    target = Path(path)
    artifact: Artifact = lowered.artifact
    write_archive(target, artifact, facts={"report": lowered.report.to_dict()})
    return target
