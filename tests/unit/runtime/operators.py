"""An operator that calls back into the test, from eager code and from TorchScript alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_observers: list[Callable[[int], object]] = []

_library = torch.library.Library("corestream_tests", "FRAGMENT")
_library.define("observe(Tensor x, int place) -> Tensor")


def _observe(x, place):
    for observer in _observers:
        observer(place)
    return x.clone()


_library.impl("observe", _observe, "CompositeImplicitAutograd")


@contextmanager
def observed(observer: Callable[[int], object]) -> Iterator[None]:
    """Inside, `torch.ops.corestream_tests.observe(x, place)` calls `observer(place)`, with the
    GIL, on the thread that runs the operator, and returns a copy of x."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)
