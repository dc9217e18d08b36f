"""Several linear layers that share an input, computed as one product."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import nn

from corestream.nn.layout import Layout, LinearLayout
from corestream.nn.linear import PackedLinear
from corestream.nn.packable import why_not_packable
from corestream.nn.store import Form, WeightStore, is_shared

__all__ = ["ConcatLinear"]


class ConcatLinear(PackedLinear):
    """One of several linear layers whose weights are one matrix: query, key and value, say.

    Each stands where it stood. The first that is called with a tensor computes the product for
    all; the others, called with the same tensor on the same thread, take their part of it. A
    tensor that was written to in between counts as another, unless it was made in inference mode,
    where torch does not tell. Called in another order, with other inputs or not at all, each
    still gives its own result.

    Example:
        >>> import torch
        >>> from corestream.nn import ConcatLinear
        >>> query, key = torch.nn.Linear(16, 16), torch.nn.Linear(16, 8)
        >>> q, k = ConcatLinear.from_modules([query, key])
        >>> x = torch.randn(5, 16)
        >>> with torch.no_grad():
        ...     bool(torch.allclose(q(x), query(x), atol=1e-5)), tuple(k(x).shape)
        (True, (5, 8))

    Any number of threads may call them at once; new values may be loaded meanwhile. The kernel
    runs without the GIL.
    """

    _store: Any  # a `_Rows`, or a `WeightStore` once it has gone its own way

    @classmethod
    def from_modules(
        cls,
        modules: Sequence[nn.Module],
        *,
        dtype: torch.dtype | None = None,
        exact_state: bool = True,
    ) -> list[Self]:
        """What to put in place of each of the layers, in the same order.

        Args:
            modules: Two nn.Linear or more, with as many input features and of one dtype.
            dtype: What to compute in; None for the weights' own.
            exact_state: See `PackedLayer.from_module`.

        Raises:
            ValueError: They cannot be one product; the text says why.
        """
        reason = _why_not_one(modules, dtype)
        if reason is not None:
            raise ValueError(
                f"modules must be nn.Linear layers that can be one product; got {list(modules)!r}: "
                f"{reason}; leave them as they are"
            )
        linears: list[Any] = list(modules)
        weight = torch.cat([linear.weight.detach() for linear in linears])
        group = _Group(
            WeightStore(weight, layout=LinearLayout(), dtype=dtype, exact=exact_state),
            [linear.out_features for linear in linears],
        )
        members = [
            cls._around(_Rows(group, number), linear) for number, linear in enumerate(linears)
        ]
        group.store.form_for(None, None)
        return members

    @property
    def group(self) -> object | None:
        """What the layers of one product have in common; None once it has gone its own way."""
        rows = self._store
        return rows.group if isinstance(rows, _Rows) else None

    def forward(
        self,
        input: torch.Tensor,  # noqa: A002 -- as torch.nn calls it
    ) -> torch.Tensor:
        """This layer's part of the product."""
        rows = self._store
        if not isinstance(rows, _Rows):
            return super().forward(input)
        form = rows.form
        is_cast = self._is_cast(input)
        is_fit = is_cast or input.dtype is rows.dtype
        if form is None or not is_fit or self._is_plain_call(input):
            return self._forward_together(input)
        part = rows.group.take(input, rows.number, form)
        bias = self._parameters["bias"]
        # Either makes a tensor of its own: a part would keep the whole product alive.
        if bias is None:
            outputs = part.clone(memory_format=torch.contiguous_format)
        else:
            outputs = part + (bias if bias.dtype is form.dtype else bias.to(form.dtype))
        return self._cast_back(outputs, input) if is_cast else outputs

    def _forward_together(self, inputs: torch.Tensor) -> torch.Tensor:
        store = self._store
        is_cast = self._is_cast(inputs)
        is_fit = is_cast or inputs.dtype is store.dtype
        if store.form is None and is_fit and not self._is_plain_call(inputs):
            store.form_for(inputs.shape, None)
            return self.forward(inputs)
        if is_cast:
            return self._cast_back(self._plain_forward(inputs.to(store.dtype)), inputs)
        return self._plain_forward(inputs)

    def _assign_weight(self, values: torch.Tensor, *, dtype: torch.dtype) -> None:
        rows = self._store
        if isinstance(rows, _Rows) and not rows.takes(values, dtype):
            # Of another kind than its siblings: it goes its own way.
            self._store = WeightStore(values, layout=LinearLayout(), dtype=dtype)
        super()._assign_weight(values, dtype=dtype)


def _why_not_one(modules: Sequence[nn.Module], dtype: torch.dtype | None) -> str | None:
    if len(modules) < 2:
        return "fewer than two"
    for module in modules:
        reason = why_not_packable(module, dtype)
        if reason is not None or not isinstance(module, nn.Linear):
            return f"{type(module).__name__}: {reason or 'no nn.Linear'}"
    linears = [module for module in modules if isinstance(module, nn.Linear)]
    if len({(linear.in_features, linear.weight.dtype) for linear in linears}) > 1:
        return "they differ in input features or dtype"
    return "one is there twice" if len({id(linear) for linear in linears}) < len(linears) else None


class _Product:
    """What the layers have not yet taken of one product."""

    def __init__(self, inputs: torch.Tensor, form: Form, parts: dict[int, torch.Tensor]) -> None:
        self.parts = parts
        self.form = form
        self.version = _version(inputs)
        self.is_inference = torch.is_inference_mode_enabled()
        # When the input dies, on whatever thread, nobody can ask for the parts any more.
        self.inputs = weakref.ref(inputs, lambda _: parts.clear())

    def is_of(self, inputs: torch.Tensor, form: Form) -> bool:
        return (
            self.inputs() is inputs
            and self.form is form
            and self.version == _version(inputs)
            and self.is_inference == torch.is_inference_mode_enabled()
        )


class _Slot(threading.local):
    product: _Product | None = None


class _Group:
    """The layers' one weight, and each thread's last product."""

    def __init__(self, store: WeightStore, sizes: list[int]) -> None:
        self.store = store
        self.sizes = sizes
        self._slot = _Slot()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_slot"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _slot=_Slot())

    def take(self, inputs: torch.Tensor, number: int, form: Form) -> torch.Tensor:
        """That layer's part of the product, of which the thread may have the rest."""
        slot = self._slot
        product = slot.product
        if product is not None and product.is_of(inputs, form):
            part = product.parts.pop(number, None)
            if not product.parts:
                slot.product = None
            if part is not None:
                return part
        cast = inputs.to(form.dtype)
        if form.is_packed:
            outputs = self.store.layout.run(cast, form.weight, bias=None)
        else:
            # Autocast would keep what it casts in a cache of its own.
            with torch.autocast("cpu", enabled=False):
                outputs = nn.functional.linear(cast, form.weight)
        parts = dict(enumerate(torch.split(outputs, self.sizes, dim=-1)))
        part = parts.pop(number)
        slot.product = _Product(inputs, form, parts)
        return part


class _Rows:
    """One layer's share of the store of a group, to the layer as if it were its own."""

    scale = shift = None

    def __init__(self, group: _Group, number: int) -> None:
        self.group = group
        self.number = number
        start = sum(group.sizes[:number])
        self._rows = slice(start, start + group.sizes[number])

    @property
    def form(self) -> Form | None:
        return self.group.store.form

    @property
    def layout(self) -> Layout:
        return self.group.store.layout

    @property
    def dtype(self) -> torch.dtype:
        return self.group.store.dtype

    @property
    def original_dtype(self) -> torch.dtype:
        return self.group.store.original_dtype

    @property
    def device(self) -> torch.device:
        return self.group.store.device

    @property
    def shape(self) -> torch.Size:
        whole = self.group.store.shape
        return torch.Size([self.group.sizes[self.number], *whole[1:]])

    @property
    def nbytes(self) -> int:
        store = self.group.store
        return store.nbytes * self.shape[0] // store.shape[0]

    def original(self) -> torch.Tensor:
        return self.group.store.original()[self._rows]

    def copy_of_original(self) -> torch.Tensor:
        return self.original().clone()

    def current(self) -> torch.Tensor:
        return self.original().to(self.dtype)

    def plain_parameters(
        self, bias: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        weight = self.group.store.folded()[self._rows]
        return weight, None if bias is None else bias.detach().to(self.dtype)

    def form_for(self, size: torch.Size | None, bias: torch.Tensor | None) -> Form:
        return self.group.store.form_for(size, None)

    def unpack(self) -> None:
        """Nothing of the layer's own is folded in."""

    def takes(self, values: torch.Tensor, dtype: torch.dtype) -> bool:
        """Whether the values can stand among the siblings'."""
        found = (values.shape, values.dtype, values.device, is_shared(values), dtype)
        wanted = (self.shape, self.original_dtype, self.device, False, self.dtype)
        return found == wanted

    def assign(self, weight: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        self.group.store.assign_rows(self._rows, weight)


def _version(inputs: torch.Tensor) -> int:
    return 0 if inputs.is_inference() else inputs._version
