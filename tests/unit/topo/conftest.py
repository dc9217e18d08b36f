from __future__ import annotations

from collections.abc import Callable

import pytest

from corestream.topo.picture import Picture, read_picture
from tests.unit.cpu.conftest import root_of

__all__ = ["picture_of", "root_of"]


@pytest.fixture
def picture_of(root_of) -> Callable[..., Picture]:
    """Name of a machine and what `read_picture` takes -> its picture."""
    return lambda name, **options: read_picture(root_of(name), **options)
