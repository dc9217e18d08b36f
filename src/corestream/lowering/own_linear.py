"""Linear layers by corestream's kernel, where that is faster than torch's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from corestream.lowering.kernel_times import is_ours_faster, on_team
from corestream.lowering.timed_for import TimedFor
from corestream.measure.inputs import ModelInputs
from corestream.ops.kernels import has_kernels
from corestream.ops.linear import linear, pack_linear

_ROUNDS = 30
# A tie is torch's: it knows more about its operators.
_MARGIN = 0.98
# In compiled graphs it is ours. oneDNN's, whose time alone was 1.1 of ours, took 1.5 of it in BERT
# on two streams (Zen 3, 12 of 72 layers), and noise beside compilers decides between the two.
_COMPILED_MARGIN = 1.05


@dataclass(frozen=True)
class LinearShape:
    """What decides which kernel is faster."""

    dtype: torch.dtype
    rows: int
    in_features: int
    out_features: int
    team_size: int
    has_gelu: bool = False  # which compiled graphs make a part of either

    @classmethod
    def of(
        cls,
        input: Tensor,  # noqa: A002 (as torch has it)
        weight: Tensor,
        *,
        timed_for: TimedFor,
    ) -> Self | None:
        """None where there is no kernel of ours."""
        is_alike = input.dtype == weight.dtype and input.dim() >= 1 and weight.dim() == 2
        if (
            not is_alike
            or input.numel() == 0
            or weight.numel() == 0
            or torch.is_autocast_enabled("cpu")
            or not has_kernels(input.dtype)
        ):
            return None
        out_features, in_features = map(int, weight.shape)
        rows = timed_for.count(int(input.numel()) // in_features)
        return cls(input.dtype, rows, in_features, out_features, timed_for.team_size)

    @functools.cache  # noqa: B019 (a value: nothing is kept alive but numbers)
    def our_kernel_is_faster(self, *, is_compiled: bool, allowance_s: float = 0.0) -> bool:
        """As measured on a team of that size, once a process for every shape.

        Args:
            is_compiled: Than what compiled graphs call, oneDNN's operator with packed weights.
                DistilBERT in fp32 took 1.6 times as long where ours had to beat MKL's, too, which
                was faster than both and is not called there (Zen 3, four sequences on a core).
                Else than both: of a script, oneDNN's graph takes some, and torch the others.
            allowance_s: By how much ours may be slower, as it is called at less cost.
        """
        with on_team(self.team_size):
            return self._is_faster_here(is_compiled, allowance_s)

    def _is_faster_here(self, is_compiled: bool, allowance_s: float) -> bool:
        x = torch.randn(self.rows, self.in_features).to(self.dtype)
        weight = torch.randn(self.out_features, self.in_features).to(self.dtype)
        ours = pack_linear(weight)
        others: dict[str, Callable[[], Any]] = {}
        if _has_onednn():
            onednn: Any = torch.ops.mkldnn
            packed = onednn._reorder_linear_weight(weight, self.rows)
            # oneDNN's takes 1.5 times as long with it (Zen 3, BERT's 768 to 3072), ours as long.
            after: tuple[Any, ...] = ("gelu", [], "none") if self.has_gelu else ("none", [], "")
            others["packed"] = functools.partial(onednn._linear_pointwise, x, packed, None, *after)
        if not is_compiled or not others:
            others["torch"] = functools.partial(nn.functional.linear, x, weight)
        return is_ours_faster(
            lambda: linear(x, ours, out_features=self.out_features, gelu=self.has_gelu),
            others,
            rounds=_ROUNDS,
            margin=_COMPILED_MARGIN if is_compiled else _MARGIN,
            allowance_s=allowance_s,
        )


class _Gelus(TorchFunctionMode):
    """Knows which layers' results go into a GELU that can be a part of the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.made_by: Any = WeakIdKeyDictionary()
        self.followed: set[nn.Linear] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_exact = kwargs.get("approximate", "none") == "none"
        if func is nn.functional.gelu and is_exact and args and args[0] in self.made_by:
            self.followed.add(self.made_by[args[0]])
        return func(*args, **kwargs)


class OwnLinear(nn.Module):
    """A linear layer whose weight is packed for our kernel.

    The plain weight stays for code that asks for it; a graph that does not use it drops it.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("packed", pack_linear(layer.weight.detach()))
        bias: Tensor | None = layer.bias
        self.register_buffer("added", None if bias is None else bias.detach().float())
        self.packed: Tensor
        self.added: Tensor | None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (as torch has it)
        """As that of a linear layer."""
        return linear(input, self.packed, out_features=self.out_features, bias=self.added)


def use_own_linear(model: nn.Module, inputs: ModelInputs, *, timed_for: TimedFor) -> int:
    """Replaces linear layers of the model by ours where they are faster, and counts them.

    Args:
        model: A copy that may be changed.
        inputs: What it will be run with; it is run once.
        timed_for: What the layers are timed for.
    """
    seen: dict[nn.Linear, set[LinearShape | None]] = {}

    gelus = _Gelus()

    def note(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(layer, nn.Linear) and args and isinstance(args[0], Tensor):
            shape = LinearShape.of(args[0], layer.weight, timed_for=timed_for)
            seen.setdefault(layer, set()).add(shape)
            gelus.made_by[output] = layer

    layers = [module for module in model.modules() if _is_plain(module)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.no_grad(), gelus:
            inputs.call(model)
    finally:
        for hook in hooks:
            hook.remove()
    for layer in gelus.followed:
        seen[layer] = {shape and replace(shape, has_gelu=True) for shape in seen[layer]}
    faster = {layer for layer, shapes in seen.items() if all(map(_is_faster_compiled, shapes))}
    made: dict[nn.Module, OwnLinear] = {layer: OwnLinear(layer) for layer in faster}
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            if child is not None and child in made:
                setattr(module, name, made[child])
    return len(made)


def _is_faster_compiled(shape: LinearShape | None) -> bool:
    return shape is not None and shape.our_kernel_is_faster(is_compiled=True)


def _has_onednn() -> bool:
    return bool(torch._C._has_mkldnn)


def _is_plain(module: nn.Module) -> bool:
    """Whether calling it does nothing but multiply."""
    return (
        type(module) is nn.Linear
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not hasattr(module, "parametrizations")
    )
