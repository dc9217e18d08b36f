"""A model as an exported program whose batch may be of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from corestream.lowering.backend import OpenBatchError
from corestream.measure.inputs import ModelInputs

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_SHOWN_CHARACTERS = 600


def export_program(
    model: nn.Module, inputs: ModelInputs, *, dynamic_batch: bool
) -> ExportedProgram:
    """`model` as a graph of ATen operators.

    Args:
        model: In eval mode, with casts in place.
        inputs: Example inputs; at least two items with `dynamic_batch`, as export takes sizes
            of 0 and 1 for constants.
        dynamic_batch: Dim 0 of every tensor is one size, which is left open.

    Raises:
        OpenBatchError: The model makes the batch size that is to be open a constant.
        ValueError: The model cannot be exported like this, with the reason.
    """
    import torch

    shapes: Any = None
    if dynamic_batch:
        batch = torch.export.Dim("batch")
        new_collection: Any = torch.export.ShapesCollection
        collection = new_collection()
        for tensor in {id(t): t for t in inputs.tensors()}.values():
            collection[tensor] = {0: batch} if tensor.dim() else {}
        shapes = collection.dynamic_shapes(model, inputs.args, inputs.kwargs)
    try:
        program = torch.export.export(
            model, inputs.args, inputs.kwargs, dynamic_shapes=shapes, strict=False
        )
    except Exception as error:
        raise _refusal(error, dynamic_batch=dynamic_batch) from error
    _check_effects(program)
    return program


def _refusal(error: Exception, *, dynamic_batch: bool) -> ValueError:
    text = " ".join(str(error).split())
    kind = type(error).__name__
    if dynamic_batch and ("specialized" in text or "Constraints violated" in text):
        return OpenBatchError(
            f"torch.export made the batch size a constant ({kind}: {text[:_SHOWN_CHARACTERS]}); "
            f"lower with dynamic_batch=False for the named sizes alone"
        )
    if "data-dependent" in text or "data dependent" in text:
        return ValueError(
            f"the model's control flow depends on its tensors' values, which no graph can hold "
            f"({kind}: {text[:_SHOWN_CHARACTERS]})"
        )
    return ValueError(f"torch.export refused the model ({kind}: {text[:_SHOWN_CHARACTERS]})")


def _check_effects(program: ExportedProgram) -> None:
    """Streams share the buffers, so a graph that writes to them gives other results each time."""
    if _writes_in_place(program):
        # Only a functional graph tells which of the writes are seen outside.
        signature = program.run_decompositions({}).graph_signature
        if changed := sorted(signature.buffers_to_mutate.values()):
            raise ValueError(f"the model changes its buffers in forward: {', '.join(changed)}")
        if changed := sorted(signature.user_inputs_to_mutate.values()):
            raise ValueError(f"the model changes its inputs in place: {', '.join(changed)}")
    kinds = {type(spec.arg).__name__ for spec in program.graph_signature.output_specs}
    if others := sorted(kinds - {"TensorArgument"}):
        raise ValueError(
            f"the model returns values besides tensors, which compiled code does not "
            f"({', '.join(others)})"
        )


def _writes_in_place(program: ExportedProgram) -> bool:
    schemas = (getattr(node.target, "_schema", None) for node in program.graph.nodes)
    return any(schema is not None and schema.is_mutable for schema in schemas)
