"""What a model is called with: positional and keyword arguments, from however users gave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class ModelInputs:
    """The arguments of one call of a model.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments.

    Example:
        >>> import torch
        >>> inputs = ModelInputs.of((torch.zeros(4, 3), torch.ones(4)))
        >>> inputs.batch_size(), [tuple(t.shape) for t in inputs.with_batch(6).tensors()]
        (4, [(6, 3), (6,)])

    A value: threads may share it.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, example_inputs: Any) -> ModelInputs:
        """The call that a user's `example_inputs` mean.

        Args:
            example_inputs: A tensor is the only argument; a tuple or list holds the positional
                arguments; a mapping, such as a tokenizer's BatchEncoding, the keyword arguments.
                ModelInputs holds both and is returned as it is.

        Raises:
            TypeError: It is something else.
        """
        match example_inputs:
            case ModelInputs():
                return example_inputs
            case Tensor():
                return cls((example_inputs,))
            case tuple() | list():
                return cls(tuple(example_inputs))
            case Mapping() if all(isinstance(name, str) for name in example_inputs):
                return cls((), dict(example_inputs))
        raise TypeError(
            f"example_inputs must be a tensor, a tuple or list of positional arguments, or a "
            f"mapping of keyword arguments; got {example_inputs!r}; for both kinds of arguments "
            f"pass corestream.measure.ModelInputs(args, kwargs)"
        )

    def call(self, model: Callable[..., Any]) -> Any:
        """What `model` returns for these arguments."""
        return model(*self.args, **self.kwargs)

    def map(self, function: Callable[[Tensor], Tensor]) -> ModelInputs:
        """The same arguments with `function` of each tensor in its place, in containers too.

        A tensor that is there twice, as in self-attention, is one tensor in the result as well.
        """
        results: dict[Tensor, Tensor] = {}

        def once(tensor: Tensor) -> Tensor:
            if tensor not in results:
                results[tensor] = function(tensor)
            return results[tensor]

        args, kwargs = pytree.tree_map_only(Tensor, once, (self.args, self.kwargs))
        return ModelInputs(args, kwargs)

    def tensors(self) -> list[Tensor]:
        """The tensors of all arguments, those in containers too, in order."""
        leaves = pytree.tree_leaves((self.args, self.kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    def batch_size(self) -> int | None:
        """The size of dim 0 of every tensor that has one; None where they differ, or none has."""
        sizes = {tensor.size(0) for tensor in self.tensors() if tensor.dim() > 0}
        return sizes.pop() if len(sizes) == 1 else None

    def with_batch(self, batch_size: int) -> ModelInputs:
        """The same call for `batch_size` items: the first ones, or all of them over and over.

        Raises:
            ValueError: The tensors do not agree on a batch size, or one of the sizes is 0.
        """
        present = self.batch_size()
        if not present:
            raise ValueError(
                f"example_inputs must have tensors with one and the same size of dim 0, at least "
                f"1; got {[tuple(tensor.shape) for tensor in self.tensors()]}; pass inputs whose "
                f"dim 0 is the batch"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}; ask for an item")
        copies = -(-batch_size // present)

        def resize(tensor: Tensor) -> Tensor:
            if tensor.dim() == 0 or batch_size == present:
                return tensor
            # torch.cat keeps channels last, as indexing does not.
            repeated = torch.cat([tensor] * copies) if copies > 1 else tensor
            return repeated[:batch_size]

        return self.map(resize)
