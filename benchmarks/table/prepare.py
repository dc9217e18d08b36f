"""Makes a model's weights, inputs and expected outputs, once for all entrants.

``python -m benchmarks.table.prepare MODEL FOLDER BATCH...``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from benchmarks import zoo
from benchmarks.models import DTYPES
from benchmarks.table.job import write_arrays
from corestream.measure import ModelInputs, tolerance_in


def prepare(model_name: str, folder: Path, *, batches: list[int]) -> None:
    model = zoo.build(model_name)
    torch.save(model.state_dict(), folder / "weights.pt")
    tolerances: dict[str, dict[str, float]] = {}
    for batch in sorted(batches):
        inputs = zoo.example_inputs(model_name, batch=batch)
        write_arrays(folder / f"inputs-{batch}.npz", [tensor.numpy() for tensor in inputs])
        with torch.no_grad():
            expected = model(*inputs)
        write_arrays(folder / f"expected-{batch}.npz", [expected.numpy()])
        limits = {
            name: tolerance_in(model, ModelInputs(inputs, {}), expected=expected, dtype=dtype)
            for name, dtype in DTYPES.items()
            # float64, which tells that of fp32, takes minutes for large batches.
            if name != "fp32" or not tolerances
        }
        first = next(iter(tolerances.values()), limits)
        tolerances[str(batch)] = {"fp32": first["fp32"]} | limits
    facts = {
        "tolerances": tolerances,
        "flops": zoo.count_flops(model_name, model),
        "weight_bytes": sum(tensor.nbytes for tensor in model.parameters()),
    }
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    prepare(sys.argv[1], Path(sys.argv[2]), batches=[int(batch) for batch in sys.argv[3:]])
