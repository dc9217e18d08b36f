"""Calls of exported graphs, which take flat tensors. Loads torch.export: import it late."""

from __future__ import annotations

from typing import Any

from torch.export._tree_utils import reorder_kwargs
from torch.utils import _pytree as pytree


def flat_leaves(args: tuple[Any, ...], kwargs: dict[str, Any], *, spec: Any) -> list[Any]:
    """The leaves of arguments that are built as those of the example the graph was made with.

    Raises:
        TypeError: They are built differently.
    """
    leaves, found = pytree.tree_flatten((args, reorder_kwargs(kwargs, spec)))
    if found != spec:
        raise TypeError(
            f"the arguments must have the structure the model was compiled for, {spec}; got "
            f"{found}; pass them as in the example inputs"
        )
    return leaves
