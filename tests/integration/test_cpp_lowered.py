"""A model lowered and saved in Python runs in a C++ program, on streams."""

from __future__ import annotations

import pytest

from tests.integration.test_cpp_examples import programs, run

__all__ = ["programs"]

# Compiles a model and the program.
pytestmark = [pytest.mark.needs_build, pytest.mark.timeout(900)]


def test_run_lowered(programs, tmp_path):
    import torch

    import corestream

    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    lowered = corestream.lower(
        model.eval(), torch.ones(8, 8), backend="aotinductor", team_size=1, cache=False
    )
    path = lowered.save(tmp_path / "model.pt2")
    expected = "rows: 16\nfirst row: 9.5 9.5 9.5\nrows are equal: true\n"
    assert run(programs / "run_lowered", path) == expected
