"""What a pass is given and what it answers: edits of the model, not yet made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from corestream.nn import ConcatLinear, PackedLayer, packed_class, why_not_packable
from corestream.optimization.tree import clone, own_tensors, with_tensors
from corestream.optimization.wiring import Wiring

Modules = tuple[nn.Module, ...]


@dataclass(frozen=True)
class Edit:
    """Modules to replace by others. It names them, so that nothing keeps what it replaces.

    Attributes:
        names: Which modules.
        build: Makes the replacements, in the same order.
        restore: Makes the originals again, exactly, of the replacements.
        part: What is measured, kept or undone together within a pass.
    """

    names: tuple[str, ...]
    build: Callable[[Modules], Modules]
    restore: Callable[[Modules], Modules]
    part: str = ""


@dataclass
class Plan:
    """What a pass is going to do.

    Attributes:
        edits: In the order they are to be made.
        skipped: Why modules are left alone that the pass is meant for, by name.
        note: What else the report should say.
    """

    edits: list[Edit] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True)
class Packer:
    """How layers are packed in this model. Knows no module, so that edits keep none alive.

    Attributes:
        input_sizes: Shape of the inputs of layers that were seen in a run, by name.
        is_exact: Whether the state has to stay the same bit for bit.
        is_users: Whether the model is the user's own, changed in place.
    """

    input_sizes: Mapping[str, tuple[int, ...]]
    is_exact: bool
    is_users: bool

    def pack(
        self,
        name: str,
        module: nn.Module,
        *,
        affine: tuple[torch.Tensor, torch.Tensor] | None = None,
        dtype: torch.dtype | None = None,
    ) -> PackedLayer:
        """The packed layer in place of `module`, with a batch norm's affine map folded in."""
        kind = packed_class(type(module))
        if kind is None:
            raise ValueError(f"{name} must be of a class that can be packed; got {module!r}")
        is_linear = isinstance(module, nn.Linear)
        scale, shift = affine or (None, None)
        options: dict[str, Any] = {"dtype": dtype, "scale": scale, "shift": shift}
        options["exact_state"] = self.is_exact
        options["input_size"] = None if is_linear else self.input_sizes.get(name)
        if self.is_users:
            return kind.from_module(module, **options)
        own = {key: clone(t) for key, t in own_tensors(module) if key != "weight"}
        packed = kind.from_module(with_tensors(module, own), **options)
        if packed.is_packed:
            return packed
        # It holds the plain weight, until its first call or for good, which must not be the user's.
        own |= {key: clone(t) for key, t in own_tensors(module) if key == "weight"}
        return kind.from_module(with_tensors(module, own), **options)

    def pack_together(
        self, modules: Sequence[nn.Module], *, dtype: torch.dtype | None = None
    ) -> Modules:
        """Linear layers as one product."""
        linears = list(modules)
        if not self.is_users:
            own = [{k: clone(t) for k, t in own_tensors(m) if k != "weight"} for m in linears]
            linears = [with_tensors(m, o) for m, o in zip(linears, own, strict=True)]
        options: dict[str, Any] = {"dtype": dtype, "exact_state": self.is_exact}
        return tuple(ConcatLinear.from_modules(linears, **options))


@dataclass(frozen=True)
class Situation:
    """What a pass knows.

    Attributes:
        modules: The model's modules as they are now, by name.
        wiring: Who reads whose output.
        shared: Ids of parameters that several modules have.
        dtype: What products are to be computed in; None for what the model computes in.
        packer: Packs layers.
    """

    modules: Mapping[str, nn.Module]
    wiring: Wiring
    shared: frozenset[int]
    dtype: torch.dtype | None
    packer: Packer

    def why_not_packable(self, name: str) -> str | None:
        """Why the module cannot be packed; None if it can."""
        reason = why_not_packable(self.modules[name], self.dtype, shared=self.shared)
        if reason is not None:
            return reason
        if name in self.wiring.read_outside:
            return "something else than the layer reads its weight"
        if isinstance(self.modules.get(name.rpartition(".")[0]), nn.TransformerEncoderLayer):
            return "TransformerEncoderLayer reads its weight for its own fused kernel"
        return None


def restore(modules: Modules) -> Modules:
    """The plain modules that packed ones and folded batch norms stand for."""
    return tuple(module.restore() for module in modules)  # type: ignore[operator]
