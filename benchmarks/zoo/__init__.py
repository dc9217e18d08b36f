"""The models of the table: others' definitions, random weights that keep activations alive."""

from __future__ import annotations

from benchmarks.zoo.catalog import MODELS, ModelSpec, build, count_flops, example_inputs

__all__ = ["MODELS", "ModelSpec", "build", "count_flops", "example_inputs"]
