"""What one call of a model computes and moves, as far as can be told without timing it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

# Positions that a convolution's weights are used at, where no example tells: 14 × 14, the middle
# of an image network.
_CONV_POSITIONS = 196


@dataclass(frozen=True)
class ModelFacts:
    """What one call of a model computes and moves.

    Attributes:
        flops: Floating point operations for one item, two per multiply-add.
        weight_bytes: Weights that a call reads, once whatever its items; rows that an embedding
            picks are not among them.
        activation_bytes: What operators write for one item.
        largest_bytes: What the operator with the largest output writes for one item.
        num_ops: Operators that compute.
        item_bytes: Bytes of a weight's element.
        batch_size: Items of a call; None if that is not known.

    Thread-safe: a value that never changes.
    """

    flops: float
    weight_bytes: float
    activation_bytes: float
    largest_bytes: float
    num_ops: int
    item_bytes: int = 4
    batch_size: int | None = None


def facts_of_call(model: Any, call: Callable[[], Any], *, batch_size: int) -> ModelFacts | None:
    """Counts what `call`, one item's call of `model`, does; None if it fails.

    It runs on a thread that ends, so that no team of OpenMP threads is left behind.
    """
    counter = _Counter(_storages(model))
    failed = []

    def run() -> None:
        try:
            with torch.no_grad(), counter:
                call()
        except Exception as error:  # noqa: BLE001 (without an example there is an answer, too)
            failed.append(error)

    thread = threading.Thread(target=run, name="corestream-facts")
    thread.start()
    thread.join()
    return None if failed else counter.facts(batch_size=batch_size)


def facts_of_weights(model: Any) -> ModelFacts | None:
    """What the shapes of the weights tell; None where there are none to see."""
    weights = list(_matrix_weights(model))
    if not weights:
        return None
    flops = sum(2.0 * w.numel() * (_CONV_POSITIONS if w.dim() > 2 else 1) for w in weights)
    sizes = [float(w.nbytes) for w in weights]
    return ModelFacts(
        flops=flops,
        weight_bytes=sum(sizes),
        activation_bytes=0.0,
        largest_bytes=0.0,
        num_ops=2 * len(weights),
        item_bytes=min(w.element_size() for w in weights),
    )


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator that runs within it."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._weights = weights
        self._flops = self._weight_bytes = self._written = self._largest = 0.0
        self._num_ops = 0
        self._item_bytes = 8
        # Loads much that only this needs.
        from torch.utils.flop_counter import flop_registry

        self._flops_of = flop_registry

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        inputs = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        known = {_storage(tensor) for tensor in inputs}
        outputs = [leaf for leaf in pytree.tree_leaves(out) if isinstance(leaf, Tensor)]
        written = float(sum(tensor.nbytes for tensor in outputs if _storage(tensor) not in known))
        self._count(func, inputs, written=written)
        if flops := self._flops_of.get(func._overloadpacket):
            self._flops += flops(*args, **kwargs, out_val=out)
        return out

    def _count(self, func: Any, inputs: list[Tensor], *, written: float) -> None:
        if written:
            self._num_ops += 1
            self._written += written
            self._largest = max(self._largest, written)
        if "embedding" in func._schema.name:
            return
        for tensor in inputs:
            if written and _storage(tensor) in self._weights:
                self._weight_bytes += tensor.nbytes
                if tensor.is_floating_point():
                    self._item_bytes = min(self._item_bytes, tensor.element_size())

    def facts(self, *, batch_size: int) -> ModelFacts:
        return ModelFacts(
            flops=float(self._flops),
            weight_bytes=self._weight_bytes,
            activation_bytes=self._written,
            largest_bytes=self._largest,
            num_ops=self._num_ops,
            item_bytes=min(self._item_bytes, 4),
            batch_size=batch_size,
        )


def _storages(model: Any) -> set[int]:
    if not isinstance(model, torch.nn.Module):
        return set()
    return {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}


def _storage(tensor: Tensor) -> int:
    # Sparse tensors and oneDNN's own have none to ask for.
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return id(tensor)


def _matrix_weights(model: Any) -> Iterator[Tensor]:
    """Weights of two dims or more that are multiplied with, each once."""
    found = _script_constants(model) if isinstance(model, torch.jit.ScriptModule) else iter(())
    seen: set[int] = set()
    for tensor in (*found, *_module_weights(model)):
        if tensor.dim() >= 2 and tensor.is_floating_point() and _storage(tensor) not in seen:
            seen.add(_storage(tensor))
            yield tensor


def _module_weights(model: Any) -> Iterator[Tensor]:
    if isinstance(model, torch.nn.Module):
        for module in model.modules():
            name = getattr(module, "original_name", type(module).__name__)
            if "Embedding" not in name:
                yield from module.parameters(recurse=False)


def _script_constants(script: Any) -> Iterator[Tensor]:
    """The tensors in a frozen graph that are no tables to look up in."""

    def visit(block: Any) -> Iterator[Tensor]:
        for node in block.nodes():
            if node.hasAttribute("value") and node.kindOf("value") == "t":
                users = {use.user.kind() for use in node.output().uses()}
                if not any("embedding" in kind for kind in users):
                    yield node.t("value")
            for inner in node.blocks():
                yield from visit(inner)

    yield from visit(script.graph)
