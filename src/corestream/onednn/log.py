"""oneDNN's own log, for a while.

torch can set oneDNN's level and cannot ask for it, so the level to put back is worked out from
what oneDNN itself starts from: its environment variables.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

VERBOSE_OFF: Final = 0
VERBOSE_ON: Final = 1
VERBOSE_ON_CREATION: Final = 2

# oneDNN reads the first that is set (utils.cpp, getenv_string_user).
_VARIABLES = ("ONEDNN_VERBOSE", "DNNL_VERBOSE")

_lock = threading.Lock()
_requested: list[list[int]] = []
_num_counting = 0


def starting_level() -> int:
    """The level that the process began with; raises ValueError where torch could not restore it."""
    for variable in _VARIABLES:
        text = os.environ.get(variable)
        if text is None:
            continue
        if text not in ("0", "1", "2"):
            raise ValueError(
                f"{variable} must be 0, 1, 2 or unset where oneDNN's log is changed in the "
                f"process; got {text!r}, which torch could not put back; start without it"
            )
        return int(text)
    return VERBOSE_OFF


def requested_level() -> int:
    """What users asked for: the scope entered last, or what the process began with."""
    return _requested[-1][0] if _requested else starting_level()


def _apply() -> None:
    import torch

    level = VERBOSE_ON_CREATION if _num_counting else requested_level()
    set_level = torch._C._verbose.mkldnn_set_verbose
    if not set_level(level):
        raise RuntimeError(
            f"torch must be built with oneDNN for its log; got level {level} refused; "
            f"see torch.backends.mkldnn.is_available()"
        )


@contextmanager
def verbose(level: int = VERBOSE_ON) -> Iterator[None]:
    """Lets oneDNN print a line for each primitive it runs (and makes), inside the scope.

    The lines go to the process's standard output, below Python's ``sys.stdout``, from every
    thread. Scopes nest: leaving one puts back the level of the one around it, or the level of
    ``ONEDNN_VERBOSE``. ``torch.backends.mkldnn.verbose`` always leaves the log off; do not nest
    it in this one.

    Args:
        level: ``VERBOSE_OFF``; ``VERBOSE_ON``: a line for each execution, with its milliseconds;
            ``VERBOSE_ON_CREATION``: also for each creation, with "cache_hit" or "cache_miss".

    Yields:
        Nothing.

    Raises:
        ValueError: Another level, or ``ONEDNN_VERBOSE`` holds what torch could not put back.
        RuntimeError: torch was built without oneDNN.

    Example:
        >>> import torch
        >>> from corestream.onednn import VERBOSE_OFF, verbose
        >>> with verbose(VERBOSE_OFF):
        ...     _ = torch.nn.Conv2d(3, 8, 3)(torch.ones(16, 3, 8, 8))

    Source: ``ipex.verbose`` of Intel Extension for PyTorch.

    Thread-safe; the level is the whole process's, and the scope entered last decides.
    """
    if isinstance(level, bool) or level not in (VERBOSE_OFF, VERBOSE_ON, VERBOSE_ON_CREATION):
        raise ValueError(
            f"level must be 0, 1 or 2; got {level!r}; pass VERBOSE_OFF, VERBOSE_ON or "
            f"VERBOSE_ON_CREATION"
        )
    starting_level()
    entry = [level]
    with _lock:
        _requested.append(entry)
        try:
            _apply()
        except BaseException:
            _requested.remove(entry)
            raise
    try:
        yield
    finally:
        with _lock:
            # By identity: scopes of other threads may hold an equal level.
            _requested[:] = [other for other in _requested if other is not entry]
            _apply()


@contextmanager
def creations_logged() -> Iterator[None]:
    """Has creations logged, whatever `verbose` scopes say; they decide again afterwards."""
    global _num_counting
    starting_level()
    with _lock:
        _num_counting += 1
        try:
            _apply()
        except BaseException:
            _num_counting -= 1
            raise
    try:
        yield
    finally:
        with _lock:
            _num_counting -= 1
            _apply()
