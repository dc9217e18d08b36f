"""What all packed layers have in common: when they run packed, their state, copies and way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import nn

from corestream.nn.layout import layout_of
from corestream.nn.packable import why_not_packable
from corestream.nn.store import Form, WeightStore, is_shared
from corestream.nn.weight import PackedWeight

__all__ = ["PackedLayer"]

_OWN_ATTRIBUTES = ("_store", "_required_grad")


class PackedLayer(nn.Module):
    """A layer of torch.nn whose weight is held as its kernel wants it.

    It stands before the class it replaces among the bases of each packed class, so that a packed
    Conv2d is an nn.Conv2d, with its attributes, hooks and text.

    Example:
        >>> import torch
        >>> from corestream.nn import PackedLayer, packed_class
        >>> linear = torch.nn.Linear(4, 4)
        >>> packed = packed_class(torch.nn.Linear).from_module(linear)
        >>> isinstance(packed, PackedLayer), type(packed.restore()) is torch.nn.Linear
        (True, True)

    Any number of threads may call one at once; new values may be loaded meanwhile. Kernels run
    without the GIL.
    """

    _replaces: ClassVar[type[nn.Module]]
    _store: WeightStore
    _required_grad: dict[str, bool]

    @classmethod
    def from_module(
        cls,
        module: Any,
        *,
        dtype: torch.dtype | None = None,
        scale: torch.Tensor | None = None,
        shift: torch.Tensor | None = None,
        exact_state: bool = True,
        input_size: Sequence[int] | None = None,
    ) -> Self:
        """The packed layer that does what `module` does; `module` stays as it is.

        Args:
            module: A layer of the class that this one replaces.
            dtype: What to compute in; None for the weight's own. Inputs of another dtype are
                cast to it and, unless autocast is on, the results back. Where the CPU has no
                kernels for it the layer runs torch's operator on a plain weight.
            scale: fp64, one value per output channel that the weight and the bias are multiplied
                by (`batch_norm_affine`).
            shift: fp64, one value per output channel, added to the result.
            exact_state: Keep what it takes to give the exact original back, in `state_dict` and
                `restore`. False saves that memory: 6 % of a folded weight, half of a rounded one.
            input_size: The shape of the inputs, for which oneDNN chooses the layout of a
                convolution. None: that of the first call.

        Raises:
            ValueError: `module` cannot be packed; the text says why.
        """
        reason = why_not_packable(module, dtype)
        if reason is None and type(module) is not cls._replaces:
            reason = f"its class is {type(module).__name__}"
        if reason is not None or (scale is None) != (shift is None):
            raise ValueError(
                f"module must be an nn.{cls._replaces.__name__} that can be packed, and scale and "
                f"shift both given or None; got {module!r}: {reason}; leave it as it is"
            )
        layout = layout_of(module)
        store = WeightStore(module.weight, layout=layout, dtype=dtype, exact=exact_state)
        packed = cls._around(store, module)
        if scale is not None and shift is not None:
            store.fold(scale, shift)
        if input_size is not None or isinstance(module, nn.Linear):
            store.form_for(None if input_size is None else torch.Size(input_size), packed._bias())
        return packed

    @classmethod
    def _around(cls, source: Any, module: nn.Module) -> Self:
        """A layer with all that `module` has, hooks and users' attributes too, but the weight."""
        packed = cls.__new__(cls)
        parameters = dict(module._parameters)
        required = {name: p is not None and p.requires_grad for name, p in parameters.items()}
        packed.__dict__.update(module.__dict__)
        for name, parameter in parameters.items():
            if name != "weight" and parameter is not None:
                parameters[name] = nn.Parameter(parameter.detach(), requires_grad=False)
        parameters["weight"] = _as_parameter(PackedWeight(source))
        packed.__dict__.update(_parameters=parameters, _store=source, _required_grad=required)
        return packed

    def restore(self) -> nn.Module:
        """The plain layer of torch.nn, with the exact original parameters."""
        plain = self._replaces.__new__(self._replaces)
        plain.__dict__.update(self.__dict__)
        for name in _OWN_ATTRIBUTES:
            del plain.__dict__[name]
        parameters = dict(self._parameters)
        parameters["weight"] = nn.Parameter(self._store.copy_of_original())
        for name, parameter in parameters.items():
            if parameter is not None:
                parameters[name] = nn.Parameter(
                    parameter.detach(), requires_grad=self._required_grad.get(name, False)
                )
        plain.__dict__["_parameters"] = parameters
        return plain

    @property
    def packed_nbytes(self) -> int:
        """How much memory the weight takes, with what gives the exact original back."""
        return self._store.nbytes

    @property
    def is_packed(self) -> bool:
        """Whether the weight is in oneDNN's layout now; if not, torch's operator runs."""
        form = self._store.form
        return form is not None and form.is_packed

    def fold(self, scale: torch.Tensor, shift: torch.Tensor) -> None:
        """Folds in another affine map, fp64, one value per output channel."""
        self._store.fold(scale, shift)

    def extra_repr(self) -> str:
        """As of the plain layer, and what is packed."""
        form = self._store.form
        state = "not packed yet" if form is None else "packed" if form.is_packed else "plain"
        folded = ", folded" if self._store.scale is not None else ""
        return f"{super().extra_repr()}, {state} {self._store.dtype}{folded}"

    def _bias(self) -> nn.Parameter | None:
        return self._parameters.get("bias")

    def _is_plain_call(self, inputs: torch.Tensor) -> bool:
        """Whether torch's own operator must run: gradients, autocast, a trace, another device."""
        if torch.is_grad_enabled() and (inputs.requires_grad or self._requires_grad()):
            return True
        return (
            not inputs.is_cpu
            or inputs.layout is not torch.strided
            or (torch.is_autocast_enabled("cpu") and not self._is_as_autocast())
            or torch._C._get_tracing_state() is not None
        )

    def _is_as_autocast(self) -> bool:
        return torch.get_autocast_dtype("cpu") is self._store.dtype

    def _is_cast(self, inputs: torch.Tensor) -> bool:
        """Whether the layer, asked to compute in another dtype than its weight's, casts these."""
        store = self._store
        is_other = inputs.dtype is not store.dtype and inputs.is_floating_point()
        return is_other and store.dtype is not store.original_dtype

    def _cast_back(self, outputs: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """To the inputs' dtype; under autocast, which leaves outputs as they are, not."""
        return outputs if torch.is_autocast_enabled("cpu") else outputs.to(inputs.dtype)

    def _requires_grad(self) -> bool:
        return any(p is not None and p.requires_grad for p in self._parameters.values())

    def _plain_forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Torch's operator on the plain, folded weight: right for whatever may be asked."""
        weight, bias = self._plain_parameters()
        return self._operator(inputs, weight, bias)

    def _plain_parameters(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        if torch.is_grad_enabled() and self._requires_grad():
            return self._differentiable()
        # A trace must have the plain weight as a constant: it cannot hold an opaque one.
        tracing = torch._C._get_tracing_state()
        torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
        try:
            return self._store.plain_parameters(self._bias())
        finally:
            torch._C._set_tracing_state(tracing)  # type: ignore[attr-defined]

    def _differentiable(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias as functions of the parameters, so that those get their gradients."""
        store = self._store
        weight: Any = self._parameters["weight"]
        bias = self._bias()
        if store.scale is None or store.shift is None:
            return weight, bias if bias is None else bias.to(store.dtype)
        spread = store.layout.spread(store.scale, store.shape)
        scaled = weight.to(torch.float64).view(spread.numel(), -1) * spread.unsqueeze(1)
        shift = store.shift if bias is None else bias.to(torch.float64) * store.scale + store.shift
        return scaled.view(store.shape).to(store.dtype), shift.to(store.dtype)

    def _bias_of(self, form: Form) -> torch.Tensor | None:
        return form.bias if form.has_own_bias else self._bias()

    def _operator(
        self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "weight" or not isinstance(value, torch.Tensor) or "_store" not in self.__dict__:
            super().__setattr__(name, value)
            if name == "bias" and "_store" in self.__dict__:
                self._store.unpack()
            return
        self._assign_weight(value.detach(), dtype=value.dtype)

    def _assign_weight(self, values: torch.Tensor, *, dtype: torch.dtype) -> None:
        requires_grad = self._parameters["weight"] is not None and self._requires_weight_grad()
        self._store.assign(values, dtype)
        self._parameters["weight"] = _as_parameter(PackedWeight(self._store, requires_grad))

    def _requires_weight_grad(self) -> bool:
        weight = self._parameters["weight"]
        return weight is not None and weight.requires_grad

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """`.to`, `.float`, `.share_memory` and the like act on the exact values."""
        parameters = self._parameters
        self._parameters = {name: p for name, p in parameters.items() if name != "weight"}
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
            rest = self._parameters
        finally:
            self._parameters = parameters
        for name, parameter in rest.items():
            parameters[name] = parameter
        exact = self._store.original()
        applied = fn(exact)
        dtype = fn(torch.empty(0, dtype=self._store.dtype)).dtype
        if applied is not exact or is_shared(applied) or dtype != self._store.dtype:
            self._assign_weight(applied, dtype=dtype)
        else:
            self._store.unpack()
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if not keep_vars:
            destination[prefix + "weight"] = self._store.copy_of_original()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        # The bias may have been written to in place, and is folded.
        self._store.unpack()


def _as_parameter(weight: Any) -> nn.Parameter:
    """Only for type checkers: at run time a `PackedWeight` is one."""
    parameter: nn.Parameter = weight
    return parameter
