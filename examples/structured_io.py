"""Says which inputs are split, along which dims, and how outputs are joined.

Prints:
    scores (6, 4)
    weights (5, 6)
    table (4, 8)
    the same as one call: True
"""

from __future__ import annotations

import torch

import corestream


class Scorer(torch.nn.Module):
    """Its input has the items in dim 1 (time first), its table belongs to all items."""

    def forward(
        self, inputs: dict[str, torch.Tensor], table: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        weights = torch.softmax(inputs["mask"], dim=0)
        pooled = (inputs["tokens"] * weights.unsqueeze(-1)).sum(dim=0)
        return {"scores": pooled @ table.t(), "weights": weights, "table": table}


def main() -> None:
    model = torch.jit.freeze(torch.jit.script(Scorer().eval()))
    inputs = {"tokens": torch.rand(5, 6, 8), "mask": torch.rand(5, 6)}
    table = torch.rand(4, 8)

    streams = corestream.MultiStreamModule(
        model,
        # tokens and mask along dim 1; the table goes whole to every stream.
        input_split_hint=corestream.MultiStreamModuleHint({"tokens": 1, "mask": 1}, None),
        # scores along dim 0, weights along dim 1; the table is taken from the first stream.
        output_concat_hint=corestream.MultiStreamModuleHint(scores=0, weights=1, table=None),
    )
    outputs = streams(inputs, table)
    for name, tensor in outputs.items():
        print(name, tuple(tensor.shape))
    expected = model(inputs, table)
    is_equal = all(torch.allclose(outputs[name], expected[name], atol=1e-6) for name in expected)
    print("the same as one call:", is_equal)
    streams.executor.shutdown()


if __name__ == "__main__":
    main()
