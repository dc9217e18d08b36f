"""Operators that PyTorch lacks, or has no fast kernel of."""

from __future__ import annotations

from corestream.ops.attention import attention, has_attention_kernel
from corestream.ops.channels import interleave_channels
from corestream.ops.convolution import (
    ConvolutionShape,
    convolution,
    has_convolution_kernel,
    pack_convolution,
)
from corestream.ops.linear import has_linear_kernel, linear, pack_linear

__all__ = [
    "ConvolutionShape",
    "attention",
    "convolution",
    "has_attention_kernel",
    "has_convolution_kernel",
    "has_linear_kernel",
    "interleave_channels",
    "linear",
    "pack_convolution",
    "pack_linear",
]
