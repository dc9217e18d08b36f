"""The weight of one packed layer: what its kernel reads, and what gives the exact values back.

At any moment a store holds the weight either plain, as it was given, or as a `Form`: folded,
rounded and laid out for the kernel, plus a residual. A form is immutable, so copies of a model
share it and a thread that runs one is not disturbed when another thread loads new values.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from corestream.nn import residual
from corestream.nn.layout import Layout, layout_id

__all__ = ["CHANNELS_LAST", "Form", "WeightStore", "is_shared"]

# (input shape, threads): what oneDNN may choose a layout by.
Key = tuple[torch.Size, int]

# So many calls in a row with another layout pack the weight anew: each of those calls reorders it
# anyway, and inputs of two sizes in turn must not pack back and forth.
_PATIENCE = 8
# Bounds what is remembered of input sizes; there is only ever one packed weight.
_MOST_KEYS = 256

# Held to pack, to decode and to take new values; never to run. One for all stores, as a store is
# copied and pickled and a lock is not.
_LOCK = threading.RLock()
# A thread that held it does not exist in a forked child.
os.register_at_fork(after_in_child=_LOCK._at_fork_reinit)  # type: ignore[attr-defined]

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}

_CODED = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Form:
    """The weight and bias that a kernel reads."""

    weight: torch.Tensor  # in the kernel's layout
    bias: torch.Tensor | None
    dtype: torch.dtype
    is_packed: bool  # False: plain, for torch's own operator
    has_own_bias: bool  # False: the layer's bias is used as it is
    residual: residual.Residual | None
    layout: bytes
    keys: frozenset[Key]  # inputs for which the layout is known to be oneDNN's choice

    @property
    def nbytes(self) -> int:
        """How much memory the weight takes, with what gives its exact values back."""
        weight = self.weight
        held: int = torch.ops.mkldnn._nbytes(weight) if weight.is_mkldnn else weight.nbytes
        return held + (0 if self.residual is None else self.residual.nbytes)


class WeightStore:
    """One weight, of whatever shape its layout takes.

    `form` is what the kernel reads, None while new values wait to be packed. `dtype` is what is
    computed in, `original_dtype` what the exact values are.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        *,
        layout: Layout,
        dtype: torch.dtype | None = None,
        exact: bool = True,
    ) -> None:
        self.layout = layout
        self.exact = exact
        # fp64, one value per output channel: the affine map that is folded in.
        self.scale: torch.Tensor | None = None
        self.shift: torch.Tensor | None = None
        self._misses = 0
        self._wanted: dict[Key, bytes] = {}
        self._take(weight, dtype or weight.dtype)

    def _take(self, weight: torch.Tensor, dtype: torch.dtype) -> None:
        self._plain: torch.Tensor | None = weight.detach()
        self.form: Form | None = None
        self.shape = weight.shape
        self.device = weight.device
        self.original_dtype = weight.dtype
        self.dtype = dtype
        self.is_channels_last = _is_channels_last(weight)
        self._wanted.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> WeightStore:
        """Shares the form, which nobody writes to."""
        twin = memo[id(self)] = WeightStore.__new__(WeightStore)
        with _LOCK:
            twin.__dict__.update(self.__dict__)
            twin._wanted = dict(self._wanted)
            twin._plain = None if self._plain is None else self._plain.clone()
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """The exact values: a layout is of this machine."""
        with _LOCK:
            return self.__dict__ | {"_plain": self.original(), "form": None, "_wanted": {}}

    @property
    def memory_format(self) -> torch.memory_format:
        """The format of the plain weight."""
        if not self.is_channels_last:
            return torch.contiguous_format
        return CHANNELS_LAST[len(self.shape)]

    @property
    def nbytes(self) -> int:
        """How much memory the weight takes now."""
        with _LOCK:
            form = 0 if self.form is None else self.form.nbytes
            return form + (0 if self._plain is None else self._plain.nbytes)

    def original(self) -> torch.Tensor:
        """The exact values, not to be written to; without `exact`, as near as the form gives."""
        with _LOCK:
            form = self.form
            if self._plain is not None or form is None:
                return cast(torch.Tensor, self._plain)  # one of the two is always there
            whole = torch.empty(self.shape, dtype=self.original_dtype)
            guess = self._estimate_from(self._plain_of(form))
            residual.decode(form.residual, whole, estimate_of=guess)
            return whole.contiguous(memory_format=self.memory_format)

    def copy_of_original(self) -> torch.Tensor:
        """The exact values in a tensor of their own."""
        with _LOCK:
            return self.original().clone() if self._plain is not None else self.original()

    def current(self) -> torch.Tensor:
        """The exact values, rounded to what is computed in; not to be written to."""
        return self.original().to(self.dtype)

    def folded(self) -> torch.Tensor:
        """The plain weight that the kernel's is made of, scaled and rounded."""
        with _LOCK:
            return self._fold() if self.form is None else self._plain_of(self.form)

    def plain_parameters(
        self, bias: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias, folded, for torch's own operator."""
        with _LOCK:
            form = self.form
            if form is not None and form.has_own_bias:
                bias = form.bias
            elif form is None:
                bias = self._fold_bias(bias)
            weight = self.folded()
            return weight.contiguous(memory_format=self.memory_format), bias

    def assign(self, weight: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        """Takes new values, which are packed when they are next used."""
        with _LOCK:
            self._take(weight, dtype or self.dtype)

    def assign_rows(self, rows: slice, weight: torch.Tensor) -> None:
        """Takes new values for some rows of the weight."""
        with _LOCK:
            whole = self.copy_of_original()
            whole[rows] = weight
            self._take(whole, self.dtype)

    def fold(self, scale: torch.Tensor, shift: torch.Tensor) -> None:
        """Takes another affine map to fold in: fp64, one value per output channel."""
        with _LOCK:
            if _are_equal(self.scale, scale) and _are_equal(self.shift, shift):
                return
            self.unpack()
            self.scale, self.shift = scale, shift

    def unpack(self) -> None:
        """Holds the weight plain until it is next used: scale, bias or device have changed."""
        with _LOCK:
            self._plain, self.form = self.original(), None

    def form_for(self, size: torch.Size | None, bias: torch.Tensor | None) -> Form:
        """What to run on inputs of that size: packs if nothing is packed, or not well any more.

        The layout is oneDNN's choice for the size of the inputs and the number of threads. With
        another layout results are the same, but oneDNN reorders the weight at every call.
        """
        with _LOCK:
            if self.form is None:
                self.form = self._make_form(size, bias)
                if not self._must_stay_plain():
                    self._plain = None
            elif size is not None and self.form.is_packed:
                self.form = self._reconsider(self.form, (size, torch.get_num_threads()))
            return self.form

    def _must_stay_plain(self) -> bool:
        """Whether it is shared between processes, elsewhere, or of a type that has no code."""
        plain = self._plain
        if plain is None:
            return False
        return is_shared(plain) or plain.device.type != "cpu" or plain.dtype not in _CODED

    def _make_form(self, size: torch.Size | None, bias: torch.Tensor | None) -> Form:
        must_stay_plain = self._must_stay_plain()
        folded = self._fold()
        is_same = folded is self._plain
        packed = None if must_stay_plain else self._pack(folded, size)
        lacks = None
        if self.exact and not (is_same or must_stay_plain):
            guess, lost = self._estimate_from(folded), self._lost_channels(folded)
            lacks = residual.encode(self.original(), guess, lost=lost)
        weight = folded.contiguous(memory_format=self.memory_format) if packed is None else packed
        keys = frozenset() if size is None else frozenset({(size, torch.get_num_threads())})
        has_own_bias = self.shift is not None or (bias is not None and bias.dtype != self.dtype)
        return Form(
            weight=weight,
            bias=self._fold_bias(bias) if has_own_bias else None,
            dtype=self.dtype,
            is_packed=packed is not None,
            has_own_bias=has_own_bias,
            residual=lacks,
            layout=layout_id(weight),
            keys=keys,
        )

    def _pack(self, folded: torch.Tensor, size: torch.Size | None) -> torch.Tensor | None:
        """The weight packed; None where torch cannot bring it back, bit for bit."""
        packed = self.layout.pack(folded, size)
        # In torch 2.13 to_dense() gets some layouts of grouped transposed convolutions wrong.
        is_sound = packed is not None and residual.have_same_bits(
            self.layout.unpack(packed), folded
        )
        return packed if is_sound else None

    def _reconsider(self, form: Form, key: Key) -> Form:
        wanted = self._wanted.get(key)
        if wanted is None:
            if len(self._wanted) >= _MOST_KEYS:
                return form
            wanted = self._wanted[key] = self._relaid(form, key)[1]
        if wanted == form.layout:
            self._misses = 0
            return replace(form, keys=form.keys | {key})
        self._misses += 1
        if self._misses < _PATIENCE:
            return form
        self._misses = 0
        weight, layout = self._relaid(form, key)
        return replace(form, weight=weight, layout=layout, keys=frozenset({key}))

    def _relaid(self, form: Form, key: Key) -> tuple[torch.Tensor, bytes]:
        """The weight in the layout for such inputs; as it is where that takes too much memory."""
        packed = self._pack(self.layout.unpack(form.weight), key[0])
        return (form.weight, form.layout) if packed is None else (packed, layout_id(packed))

    def _plain_of(self, form: Form) -> torch.Tensor:
        return self.layout.unpack(form.weight) if form.is_packed else form.weight

    def _fold(self) -> torch.Tensor:
        """The exact weight scaled and rounded; itself if there is nothing to do."""
        plain = self.original()
        if self.scale is None:
            return plain.to(self.dtype)
        folded = torch.empty(plain.shape, dtype=self.dtype, device=plain.device)
        scale = self._spread_scale().to(plain.device)
        blocks, into = plain.reshape(scale.numel(), -1), folded.view(scale.numel(), -1)
        for rows in range(0, scale.numel(), _rows_at_a_time(blocks)):
            part = slice(rows, rows + _rows_at_a_time(blocks))
            into[part] = blocks[part].to(torch.float64) * scale[part].unsqueeze(1)
        return folded

    def _fold_bias(self, bias: torch.Tensor | None) -> torch.Tensor | None:
        if self.scale is None or self.shift is None:
            return None if bias is None else bias.detach().to(self.dtype)
        scale, shift = self.scale.to(self.device), self.shift.to(self.device)
        folded = shift if bias is None else bias.detach().to(torch.float64) * scale + shift
        return folded.to(self.dtype)

    def _spread_scale(self) -> torch.Tensor:
        scale = self.scale
        return torch.ones(1) if scale is None else self.layout.spread(scale, self.shape)

    def _lost_channels(self, folded: torch.Tensor) -> torch.Tensor | None:
        """Which blocks of the weight cannot be told from what they were scaled to: pruned ones."""
        if self.scale is None:
            return None
        # Where the scale is neither 0 nor nearly, odd values are listed one by one.
        return ~(self._spread_scale().abs() >= torch.finfo(folded.dtype).tiny)

    def _estimate_from(self, held: torch.Tensor) -> Callable[[int, int], torch.Tensor]:
        values, dtype = held.reshape(-1), self.original_dtype
        if self.scale is None:
            return lambda start, stop: residual.estimate(values[start:stop], None, dtype=dtype)
        scale = self._spread_scale()
        block = values.numel() // max(1, scale.numel())

        def estimate(start: int, stop: int) -> torch.Tensor:
            at = torch.arange(start, stop).div_(block, rounding_mode="floor")
            return residual.estimate(values[start:stop], scale[at], dtype=dtype)

        return estimate


def _is_channels_last(weight: torch.Tensor) -> bool:
    named = CHANNELS_LAST.get(weight.dim())
    is_named = named is not None and weight.is_contiguous(memory_format=named)
    return is_named and not weight.is_contiguous()


def _are_equal(old: torch.Tensor | None, new: torch.Tensor) -> bool:
    return old is not None and old.equal(new)


def is_shared(values: torch.Tensor) -> bool:
    """Whether other processes see the values."""
    return bool(values.is_shared())  # type: ignore[no-untyped-call]


def _rows_at_a_time(blocks: torch.Tensor) -> int:
    # Bounds the fp64 copy to about a MiB.
    return max(1, (1 << 17) // max(1, blocks.shape[1]))
