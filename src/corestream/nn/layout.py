"""How oneDNN wants the weight of a layer: bring it into that layout, back, and run the operator.

One immutable class per kind of layer, on stock torch operators only. All of them take and return
what the layer's own weight looks like; what oneDNN makes of it stays inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

__all__ = [
    "ConvLayout",
    "ConvTransposeLayout",
    "Layout",
    "LinearLayout",
    "can_pack",
    "layout_id",
    "layout_of",
]

# A layout pads channels to whole vectors: up to 64 times the bytes for small groups. Such a weight
# stays plain, unless it is too small to matter.
_MOST_PADDING = 1.2
_SLACK_BYTES = 16 << 10


class Layout(Protocol):
    """What a `WeightStore` and a packed layer need to know of the kind of layer."""

    @property
    def rank(self) -> int:
        """How many dims a batch of inputs has; 0 if any number is right."""
        ...

    def pack(self, weight: torch.Tensor, input_size: Sequence[int] | None) -> torch.Tensor | None:
        """The weight laid out for such inputs; None if there is no kernel or it takes too much."""
        ...

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """The plain weight, bit for bit."""
        ...

    def run(
        self, inputs: torch.Tensor, packed: torch.Tensor, *, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """The operator on a batch of inputs."""
        ...

    def spread(self, per_channel: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """From one value per output channel to one per block of the weight, in C order."""
        ...


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch, on this CPU, runs oneDNN's kernels on such weights.

    Args:
        dtype: What is to be computed in.

    Returns:
        False also for bf16 and fp16 on a CPU without instructions for them.

    Example:
        >>> import torch
        >>> from corestream.nn import can_pack
        >>> can_pack(torch.int64)
        False

    Thread-safe; holds the GIL.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype is torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype is torch.float32


def layout_id(packed: torch.Tensor) -> bytes:
    """Equal for two packed weights that are laid out alike."""
    if not packed.is_mkldnn:
        return b"plain"
    return bytes(torch.ops.mkldnn._get_mkldnn_serialized_md(packed).numpy())


def _within_bounds(packed: torch.Tensor, weight: torch.Tensor) -> bool:
    most = max(_MOST_PADDING * weight.nbytes, weight.nbytes + _SLACK_BYTES)
    return bool(torch.ops.mkldnn._nbytes(packed) <= most)


@dataclass(frozen=True)
class ConvLayout:
    """Convolutions over 1, 2 or 3 dims; one dim is done as two, the first of size 1."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    is_1d: bool

    @staticmethod
    def of(module: nn.modules.conv._ConvNd) -> ConvLayout | None:
        """The layout for such a layer; None if its padding differs from side to side."""
        padding = _symmetric_padding(module)
        if padding is None:
            return None
        is_1d = len(module.kernel_size) == 1
        return ConvLayout(
            stride=(1, *module.stride) if is_1d else tuple(module.stride),
            padding=(0, *padding) if is_1d else tuple(padding),
            dilation=(1, *module.dilation) if is_1d else tuple(module.dilation),
            groups=module.groups,
            is_1d=is_1d,
        )

    @property
    def rank(self) -> int:
        """Dims of a batch of inputs."""
        return 3 if self.is_1d else 2 + len(self.stride)

    def pack(self, weight: torch.Tensor, input_size: Sequence[int] | None) -> torch.Tensor | None:
        """See `Layout`."""
        if not can_pack(weight.dtype):
            return None
        if self.is_1d:
            weight = weight.unsqueeze(2)
            input_size = None if input_size is None else [*input_size[:2], 1, *input_size[2:]]
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            weight, self.padding, self.stride, self.dilation, self.groups, input_size
        )
        return packed if _within_bounds(packed, weight) else None

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """See `Layout`."""
        weight = packed.to_dense()
        return weight.squeeze(2) if self.is_1d else weight

    def run(
        self, inputs: torch.Tensor, packed: torch.Tensor, *, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """See `Layout`."""
        outputs: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            inputs.unsqueeze(2) if self.is_1d else inputs,
            packed,
            bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            "none",
            [],
            "",
        )
        return outputs.squeeze(2) if self.is_1d else outputs

    def spread(self, per_channel: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """See `Layout`."""
        return per_channel


def _symmetric_padding(module: nn.modules.conv._ConvNd) -> tuple[int, ...] | None:
    """In numbers, dim by dim; None where "same" pads one side more, as for even kernels."""
    if not isinstance(module.padding, str):
        return tuple(module.padding)
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    return None if any(total % 2 for total in totals) else tuple(total // 2 for total in totals)


@dataclass(frozen=True)
class ConvTransposeLayout:
    """Transposed convolutions over 2 or 3 dims, whose weight has the input channels first."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @staticmethod
    def of(module: nn.modules.conv._ConvTransposeNd) -> ConvTransposeLayout | None:
        """The layout for such a layer; None if oneDNN has no kernel for it."""
        if any(o >= s for o, s in zip(module.output_padding, module.stride, strict=True)):
            return None
        if isinstance(module.padding, str):
            return None
        return ConvTransposeLayout(
            stride=tuple(module.stride),
            padding=tuple(module.padding),
            output_padding=tuple(module.output_padding),
            dilation=tuple(module.dilation),
            groups=module.groups,
        )

    @property
    def rank(self) -> int:
        """Dims of a batch of inputs."""
        return 2 + len(self.stride)

    def pack(self, weight: torch.Tensor, input_size: Sequence[int] | None) -> torch.Tensor | None:
        """See `Layout`."""
        if not can_pack(weight.dtype):
            return None
        packed = torch.ops.mkldnn._reorder_convolution_transpose_weight(
            weight,
            self.padding,
            self.output_padding,
            self.stride,
            self.dilation,
            self.groups,
            input_size,
        )
        return packed if _within_bounds(packed, weight) else None

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """See `Layout`."""
        weight = packed.to_dense()  # (out, in / groups, ...), as of a convolution
        grouped = weight.view(self.groups, -1, *weight.shape[1:]).transpose(1, 2)
        return grouped.reshape(-1, *grouped.shape[2:])

    def run(
        self, inputs: torch.Tensor, packed: torch.Tensor, *, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """See `Layout`."""
        outputs: torch.Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(
            inputs,
            packed,
            bias,
            self.padding,
            self.output_padding,
            self.stride,
            self.dilation,
            self.groups,
            "none",
            [],
            "",
        )
        return outputs

    def spread(self, per_channel: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """See `Layout`."""
        grouped = per_channel.view(self.groups, 1, -1)
        return grouped.expand(-1, shape[0] // self.groups, -1).reshape(-1)


@dataclass(frozen=True)
class LinearLayout:
    """Linear layers. The layout is one for all batch sizes and numbers of threads."""

    rank: int = 0

    def pack(self, weight: torch.Tensor, input_size: Sequence[int] | None) -> torch.Tensor | None:
        """See `Layout`."""
        if not can_pack(weight.dtype):
            return None
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        return packed if _within_bounds(packed, weight) else None

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """See `Layout`."""
        return packed.to_dense()

    def run(
        self, inputs: torch.Tensor, packed: torch.Tensor, *, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """See `Layout`."""
        outputs: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs, packed, bias, "none", [], ""
        )
        return outputs

    def spread(self, per_channel: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """See `Layout`."""
        return per_channel


def layout_of(module: nn.Module) -> Any:
    """The layout of a Linear or convolution; None if oneDNN cannot do what it does."""
    if isinstance(module, nn.Linear):
        return LinearLayout()
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return ConvTransposeLayout.of(module)
    return ConvLayout.of(module) if isinstance(module, nn.modules.conv._ConvNd) else None
