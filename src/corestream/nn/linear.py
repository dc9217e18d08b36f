"""Linear layers with packed weights."""

from __future__ import annotations

import torch
from torch import nn

from corestream.nn.packed import PackedLayer

__all__ = ["PackedLinear"]


class PackedLinear(PackedLayer, nn.Linear):
    """An nn.Linear whose weight is held in oneDNN's layout.

    Torch's own operator hands fp32 products to its BLAS (MKL), bf16 and fp16 ones to oneDNN,
    which reorders the weight at every call. Which is faster depends on the CPU and on the sizes:
    measure. Otherwise as `PackedConv2d`.

    Example:
        >>> import torch
        >>> from corestream.nn import PackedLinear
        >>> linear = torch.nn.Linear(128, 64)
        >>> packed = PackedLinear.from_module(linear)
        >>> x = torch.randn(2, 7, 128)
        >>> with torch.no_grad():
        ...     bool(torch.allclose(packed(x), linear(x), atol=1e-5))
        True

    Any number of threads may call it at once; new values may be loaded meanwhile. Kernels run
    without the GIL.
    """

    _replaces = nn.Linear

    def forward(
        self,
        input: torch.Tensor,  # noqa: A002 -- as torch.nn calls it
    ) -> torch.Tensor:
        """The product, on the packed weight wherever that can be."""
        store = self._store
        form = store.form
        if (
            form is None
            or not form.is_packed
            or input.dtype is not form.dtype
            or self._is_plain_call(input)
        ):
            return self._forward_slowly(input)
        return store.layout.run(input, form.weight, bias=self._bias_of(form))

    def _forward_slowly(self, inputs: torch.Tensor) -> torch.Tensor:
        store = self._store
        if self._is_cast(inputs):
            return self._cast_back(self.forward(inputs.to(store.dtype)), inputs)
        is_new = store.form is None and inputs.dtype is store.dtype
        is_new = is_new and not self._is_plain_call(inputs)
        if is_new and store.form_for(inputs.shape, self._bias()).is_packed:
            return self.forward(inputs)
        return self._plain_forward(inputs)

    def _operator(
        self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        return nn.functional.linear(inputs, weight, bias)
