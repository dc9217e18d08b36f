from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.topologies.builder import build
from tests.topologies.machines import MACHINES


@pytest.fixture(scope="session")
def root_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of a machine -> its folder, built once."""
    built: dict[str, Path] = {}

    def root(name: str) -> Path:
        if name not in built:
            built[name] = build(tmp_path_factory.mktemp("machine"), MACHINES[name])
        return built[name]

    return root
