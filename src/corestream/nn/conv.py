"""Convolutions and transposed convolutions with packed weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from corestream.nn.packed import PackedLayer
from corestream.nn.store import CHANNELS_LAST

__all__ = [
    "PackedConv1d",
    "PackedConv2d",
    "PackedConv3d",
    "PackedConvTranspose2d",
    "PackedConvTranspose3d",
]


class _PackedConv(PackedLayer):
    """Runs oneDNN's kernel, and gives what torch's operator would have given."""

    def forward(
        self,
        input: torch.Tensor,  # noqa: A002 -- as torch.nn calls it
    ) -> torch.Tensor:
        """The operator, on the packed weight wherever that can be.

        Outputs have the memory format that torch's operator gives them: channels last if the
        weight was, or the input is.
        """
        store = self._store
        form = store.form
        if (
            form is None
            or not form.is_packed
            or input.dtype is not form.dtype
            or input.dim() != store.layout.rank
            or self._is_plain_call(input)
        ):
            return self._forward_slowly(input)
        if (input.shape, torch.get_num_threads()) not in form.keys:
            form = store.form_for(input.shape, self._bias())
        outputs = store.layout.run(input, form.weight, bias=self._bias_of(form))
        return outputs if self._is_kept(input) else outputs.contiguous()

    def _forward_slowly(self, inputs: torch.Tensor) -> torch.Tensor:
        store = self._store
        if self._is_cast(inputs):
            return self._cast_back(self.forward(inputs.to(store.dtype)), inputs)
        if inputs.dtype is store.dtype and not self._is_plain_call(inputs):
            if inputs.dim() == store.layout.rank - 1:
                return self.forward(inputs.unsqueeze(0)).squeeze(0)
            is_new = inputs.dim() == store.layout.rank and store.form is None
            if is_new and store.form_for(inputs.shape, self._bias()).is_packed:
                return self.forward(inputs)
        return self._plain_forward(inputs)

    def _is_kept(self, inputs: torch.Tensor) -> bool:
        """Whether outputs stay channels last, as oneDNN's always are."""
        named = CHANNELS_LAST.get(inputs.dim())
        if named is None:  # one dim: torch has no name for it
            return not inputs.is_contiguous() and inputs.transpose(1, 2).is_contiguous()
        if self._store.is_channels_last:
            return True
        return inputs.is_contiguous(memory_format=named) and not inputs.is_contiguous()

    def _operator(
        self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        convolve: Any = self._conv_forward
        outputs: torch.Tensor = convolve(inputs, weight, bias)
        return outputs


class _PackedConvTranspose(_PackedConv):
    """Takes the size of the output that is wanted, as the plain layers do."""

    def forward(
        self,
        input: torch.Tensor,  # noqa: A002 -- as torch.nn calls it
        output_size: list[int] | None = None,
    ) -> torch.Tensor:
        """The operator; with `output_size`, which changes its geometry, torch's own."""
        if output_size is None:
            return super().forward(input)
        weight, bias = self._plain_parameters()
        return self._transposed(input, weight, bias, output_size)

    def _operator(
        self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        return self._transposed(inputs, weight, bias, None)

    def _transposed(
        self,
        inputs: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        output_size: list[int] | None,
    ) -> torch.Tensor:
        layer: Any = self
        spatial_dims = len(layer.kernel_size)
        output_padding = layer._output_padding(
            inputs,
            output_size,
            layer.stride,
            layer.padding,
            layer.kernel_size,
            spatial_dims,
            layer.dilation,
        )
        run: Any = getattr(functional, f"conv_transpose{spatial_dims}d")
        outputs: torch.Tensor = run(
            inputs,
            weight,
            bias,
            layer.stride,
            layer.padding,
            output_padding,
            layer.groups,
            layer.dilation,
        )
        return outputs


class PackedConv1d(_PackedConv, nn.Conv1d):
    """An nn.Conv1d whose weight is held in oneDNN's layout; run as a 2d convolution of height 1.

    Example:
        >>> import torch
        >>> from corestream.nn import PackedConv1d
        >>> conv = torch.nn.Conv1d(4, 8, 3, padding=1)
        >>> with torch.no_grad():
        ...     bool(PackedConv1d.from_module(conv)(torch.ones(2, 4, 9)).shape == (2, 8, 9))
        True

    Any number of threads may call it at once; new values may be loaded meanwhile. Kernels run
    without the GIL.
    """

    _replaces = nn.Conv1d


class PackedConv2d(_PackedConv, nn.Conv2d):
    """An nn.Conv2d whose weight is held in oneDNN's layout.

    It is an nn.Conv2d: attributes, hooks, `state_dict` with the exact original values,
    `load_state_dict`, copies and pickles are as before, and `restore` gives the plain layer.
    Where the packed weight cannot serve (a gradient is wanted, autocast is on, the CPU has no
    kernel for the dtype, the module has been moved or shared), torch's operator runs.

    Example:
        >>> import torch
        >>> from corestream.nn import PackedConv2d
        >>> conv = torch.nn.Conv2d(3, 16, 3, groups=1)
        >>> packed = PackedConv2d.from_module(conv, input_size=(1, 3, 32, 32))
        >>> x = torch.randn(1, 3, 32, 32)
        >>> with torch.no_grad():
        ...     bool(torch.allclose(packed(x), conv(x), atol=1e-5))
        True
        >>> bool(torch.equal(packed.state_dict()["weight"], conv.weight))
        True

    Any number of threads may call it at once; new values may be loaded meanwhile. Kernels run
    without the GIL.
    """

    _replaces = nn.Conv2d


class PackedConv3d(_PackedConv, nn.Conv3d):
    """An nn.Conv3d whose weight is held in oneDNN's layout; otherwise as `PackedConv2d`.

    Example:
        >>> import torch
        >>> from corestream.nn import PackedConv3d
        >>> packed = PackedConv3d.from_module(torch.nn.Conv3d(2, 4, 3, groups=2))
        >>> with torch.no_grad():
        ...     tuple(packed(torch.ones(1, 2, 5, 5, 5)).shape)
        (1, 4, 3, 3, 3)

    Any number of threads may call it at once; new values may be loaded meanwhile. Kernels run
    without the GIL.
    """

    _replaces = nn.Conv3d


class PackedConvTranspose2d(_PackedConvTranspose, nn.ConvTranspose2d):
    """An nn.ConvTranspose2d whose weight is held in oneDNN's layout, groups or not.

    Example:
        >>> import torch
        >>> from corestream.nn import PackedConvTranspose2d
        >>> conv = torch.nn.ConvTranspose2d(8, 16, 2, stride=2, groups=4)
        >>> with torch.no_grad():
        ...     tuple(PackedConvTranspose2d.from_module(conv)(torch.ones(1, 8, 5, 5)).shape)
        (1, 16, 10, 10)

    Any number of threads may call it at once; new values may be loaded meanwhile. Kernels run
    without the GIL.
    """

    _replaces = nn.ConvTranspose2d


class PackedConvTranspose3d(_PackedConvTranspose, nn.ConvTranspose3d):
    """An nn.ConvTranspose3d whose weight is held in oneDNN's layout, groups or not.

    Example:
        >>> import torch
        >>> from corestream.nn import PackedConvTranspose3d
        >>> conv = torch.nn.ConvTranspose3d(8, 4, 2, stride=2)
        >>> with torch.no_grad():
        ...     tuple(PackedConvTranspose3d.from_module(conv)(torch.ones(1, 8, 2, 2, 2)).shape)
        (1, 4, 4, 4, 4)

    Any number of threads may call it at once; new values may be loaded meanwhile. Kernels run
    without the GIL.
    """

    _replaces = nn.ConvTranspose3d
