from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

import corestream
from corestream import CPUPool
from tests.unit.runtime.models import Projection


@pytest.fixture
def single() -> CPUPool:
    return CPUPool([min(corestream.allowed_cpus())])


@pytest.fixture
def pair() -> CPUPool:
    allowed = list(corestream.allowed_cpus())
    if len(allowed) < 2:
        pytest.skip("needs two CPUs")
    return CPUPool(allowed[:2])


@pytest.fixture(scope="session")
def projection() -> Projection:
    torch.manual_seed(1)
    return Projection().eval()


@pytest.fixture(scope="session")
def package(projection: Projection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`projection` compiled to a .pt2 package for streams of one core, any batch size."""
    path = tmp_path_factory.mktemp("package") / "projection.pt2"
    one_thread = {"cpp.threads": 1, "compile_threads": 1}
    with warnings.catch_warnings(), torch.no_grad(), torch._inductor.config.patch(one_thread):
        warnings.simplefilter("ignore")  # the compiler's own, about its own parts
        exported = torch.export.export(
            projection,
            (torch.ones(3, projection.size),),
            {"options": {"scale": torch.tensor(2.0), "shift": torch.zeros(1)}},
            dynamic_shapes={
                "x": {0: torch.export.Dim("batch", min=2, max=4096)},
                "options": {"scale": None, "shift": None},
            },
        )
        torch._inductor.aoti_compile_and_package(exported, package_path=str(path))
    return path
