"""What is warned of while a model is traced and compiled, as notes instead of warnings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.jit._trace import TracerWarning

_TORCH = str(Path(torch.__file__).parent)


@contextmanager
def warnings_as_notes() -> Iterator[list[str]]:
    """Within it, warnings are collected; at its end the list holds each once, with its place.

    A trace warns at every branch that it takes, and where warnings are errors one of them would end
    a compilation half-way. What torch says of its own code is left out: who lowers a model cannot
    do anything about it.
    """
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield notes
    for warning in caught:
        text = str(warning.message).split(". ")[0]
        if warning.filename.startswith(_TORCH) or "`torch.jit." in text:
            continue
        kind = (
            "" if issubclass(warning.category, TracerWarning) else f"{warning.category.__name__}: "
        )
        note = f"{kind}{text} ({warning.filename}:{warning.lineno})"
        if note not in notes:
            notes.append(note)
