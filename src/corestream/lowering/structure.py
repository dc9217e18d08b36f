"""Arguments and results of any structure, as the flat tensors that a graph takes and returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from corestream.measure.inputs import ModelInputs
from corestream.runtime.flat_calls import flat_leaves

# What may stand beside tensors in a result, as a part of the graph.
_CONSTANTS = (type(None), bool, int, float, str)


@dataclass(frozen=True)
class CallStructure:
    """How calls are built around a graph that takes tensors and returns a tuple of tensors.

    Attributes:
        in_spec: The structure of (args, kwargs), as torch's pytree describes it.
        arguments: The repr of each argument that is no tensor, whose value is part of the graph.
        out_spec: The structure of the result.
        results: The leaves of the result that are no tensors, by position.

    Thread-safe: a value that never changes.
    """

    in_spec: Any
    arguments: tuple[str, ...]
    out_spec: Any
    results: dict[int, Any]

    def flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        """The tensors among the arguments.

        Raises:
            TypeError: The arguments are built differently.
            ValueError: One that is no tensor has another value.
        """
        leaves = flat_leaves(args, kwargs, spec=self.in_spec)
        if (others := _other_leaves(leaves)) != self.arguments:
            raise ValueError(
                f"the arguments besides tensors must be [{', '.join(self.arguments)}], which are "
                f"part of the lowered graph; got [{', '.join(others)}]; lower the model with such "
                f"an example"
            )
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    def unflatten(self, tensors: Sequence[Tensor]) -> Any:
        """The result that has these tensors."""
        remaining = iter(tensors)
        count = len(tensors) + len(self.results)
        leaves = [
            self.results[index] if index in self.results else next(remaining)
            for index in range(count)
        ]
        return pytree.tree_unflatten(leaves, self.out_spec)

    def to_dict(self) -> dict[str, Any]:
        """As values for JSON."""
        return {
            "in_spec": pytree.treespec_dumps(self.in_spec),
            "arguments": list(self.arguments),
            "out_spec": pytree.treespec_dumps(self.out_spec),
            "results": list(self.results.items()),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What :meth:`to_dict` wrote."""
        in_spec, out_spec = map(pytree.treespec_loads, (values["in_spec"], values["out_spec"]))
        return cls(in_spec, tuple(values["arguments"]), out_spec, dict(values["results"]))


class FlatCalls(nn.Module):
    """A model behind tensors: what a trace of it sees has no other structure.

    Thread-safe once its structure is known; to be traced on one thread.
    """

    def __init__(self, model: nn.Module, *, inputs: ModelInputs, outputs: Any) -> None:
        """For calls built as `inputs`, which the model answers with `outputs`.

        Raises:
            TypeError: The result has something besides tensors and plain constants.
        """
        super().__init__()
        self.model = model
        self._leaves, in_spec = pytree.tree_flatten((inputs.args, inputs.kwargs))
        leaves, out_spec = pytree.tree_flatten(outputs)
        results = {i: leaf for i, leaf in enumerate(leaves) if not isinstance(leaf, Tensor)}
        if strange := [leaf for leaf in results.values() if not isinstance(leaf, _CONSTANTS)]:
            raise TypeError(f"the model returns a {type(strange[0]).__name__}; a trace cannot")
        self.structure = CallStructure(in_spec, _other_leaves(self._leaves), out_spec, results)
        self.eval()

    def tensors(self) -> tuple[Tensor, ...]:
        """The example's."""
        return tuple(leaf for leaf in self._leaves if isinstance(leaf, Tensor))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors of the model's result."""
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self._leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.structure.in_spec)
        results = pytree.tree_leaves(self.model(*args, **kwargs))
        return tuple(leaf for leaf in results if isinstance(leaf, Tensor))


def is_traceable(inputs: ModelInputs, outputs: Any) -> bool:
    """Whether a trace takes and returns such values as they are."""
    leaves = pytree.tree_leaves((inputs.args, inputs.kwargs))
    return all(isinstance(leaf, Tensor) for leaf in leaves) and _is_plain(outputs)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Tensor):
        return True
    kind = type(value)
    if kind is tuple:
        return bool(value) and all(map(_is_plain, value))
    if kind is list or kind is dict:
        items = list(value.values()) if kind is dict else value
        return bool(items) and all(isinstance(item, Tensor) for item in items)
    return False


def _other_leaves(leaves: Sequence[Any]) -> tuple[str, ...]:
    return tuple(repr(leaf) for leaf in leaves if not isinstance(leaf, Tensor))
