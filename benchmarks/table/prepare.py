"""Makes a model's weights, inputs and expected outputs, once for all entrants.

``python -m benchmarks.table.prepare MODEL FOLDER DTYPES BATCH...``, dtypes with commas between.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import zoo
from benchmarks.models import DTYPES
from benchmarks.table.job import write_arrays
from corestream.measure import ModelInputs, tolerance_in


def prepare(
    model_name: str, folder: Path, *, batches: list[int], dtypes: Iterable[str] = DTYPES
) -> None:
    model = zoo.build(model_name)
    torch.save(model.state_dict(), folder / "weights.pt")
    one = zoo.example_inputs(model_name, batch=1)
    with torch.no_grad():
        # float64, which tells that of fp32, takes minutes for large batches.
        in_fp32 = _tolerance(model, one, dtype="fp32", expected=model(*one))
    tolerances: dict[str, dict[str, float]] = {}
    for batch in sorted(batches):
        inputs = zoo.example_inputs(model_name, batch=batch)
        write_arrays(folder / f"inputs-{batch}.npz", [tensor.numpy() for tensor in inputs])
        with torch.no_grad():
            expected = model(*inputs)
        write_arrays(folder / f"expected-{batch}.npz", [expected.numpy()])
        tolerances[str(batch)] = {
            name: in_fp32
            if name == "fp32"
            else _tolerance(model, inputs, dtype=name, expected=expected)
            for name in dtypes
        }
    facts = {
        "tolerances": tolerances,
        "flops": zoo.count_flops(model_name, model),
        "weight_bytes": sum(tensor.nbytes for tensor in model.parameters()),
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def _tolerance(
    model: nn.Module, inputs: tuple[Tensor, ...], *, dtype: str, expected: Tensor
) -> float:
    return tolerance_in(model, ModelInputs(inputs, {}), expected=expected, dtype=DTYPES[dtype])


if __name__ == "__main__":
    model_name, folder, dtypes, *batches = sys.argv[1:]
    prepare(model_name, Path(folder), batches=list(map(int, batches)), dtypes=dtypes.split(","))
