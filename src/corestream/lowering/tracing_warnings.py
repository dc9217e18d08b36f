"""What is warned of while a model is traced and compiled, as notes instead of warnings."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.jit._trace import TracerWarning

_TORCH = str(Path(torch.__file__).parent) + os.sep
_OURS = str(Path(__file__).parent) + os.sep
# From a function of torch to the mode that sees its call.
_DISPATCH = _TORCH + "overrides.py"


@contextmanager
def warnings_as_notes() -> Iterator[list[str]]:
    """Within it, warnings are collected; at its end the list holds each once, with its place.

    A trace warns at every branch that it takes, and where warnings are errors one of them would end
    a compilation half-way. What torch says of its own code is left out: who lowers a model cannot
    do anything about it.
    """
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")

        def keep(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any
        ) -> None:
            _note(notes, str(message), category=category, place=_caller(filename, lineno))

        warnings.showwarning = keep  # type: ignore[assignment]  # (it takes files, too)
        yield notes


def _caller(filename: str, line: int) -> tuple[str, int]:
    """Where a warning belongs: not to our code that calls torch in a model's place."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename, frame.f_lineno) != (filename, line):
        frame = frame.f_back
    while frame is not None and frame.f_code.co_filename.startswith((_OURS, _DISPATCH)):
        is_dispatch = frame.f_code.co_filename == _DISPATCH
        frame = frame.f_back
        if is_dispatch and frame is not None and frame.f_code.co_filename.startswith(_TORCH):
            frame = frame.f_back  # the function that was called
    return (filename, line) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def _note(
    notes: list[str], message: str, *, category: type[Warning], place: tuple[str, int]
) -> None:
    text = message.split(". ")[0]
    if place[0].startswith(_TORCH) or "`torch.jit." in text:
        return
    kind = "" if issubclass(category, TracerWarning) else f"{category.__name__}: "
    note = f"{kind}{text} ({place[0]}:{place[1]})"
    if note not in notes:
        notes.append(note)
