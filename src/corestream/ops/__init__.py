"""Operators that PyTorch lacks, or has no fast kernel of."""

from __future__ import annotations

from corestream.ops.attention import attention, has_attention_kernel
from corestream.ops.channels import interleave_channels

__all__ = ["attention", "has_attention_kernel", "interleave_channels"]
