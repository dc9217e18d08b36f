"""Layers with packed weights that take the place of torch.nn's in a model for inference."""

from __future__ import annotations

from corestream.nn.concat import ConcatLinear
from corestream.nn.conv import (
    PackedConv1d,
    PackedConv2d,
    PackedConv3d,
    PackedConvTranspose2d,
    PackedConvTranspose3d,
)
from corestream.nn.kinds import packed_class
from corestream.nn.layout import can_pack
from corestream.nn.linear import PackedLinear
from corestream.nn.norm import FoldedBatchNorm, batch_norm_affine
from corestream.nn.packable import shared_parameters, why_not_packable
from corestream.nn.packed import PackedLayer

__all__ = [
    "ConcatLinear",
    "FoldedBatchNorm",
    "PackedConv1d",
    "PackedConv2d",
    "PackedConv3d",
    "PackedConvTranspose2d",
    "PackedConvTranspose3d",
    "PackedLayer",
    "PackedLinear",
    "batch_norm_affine",
    "can_pack",
    "packed_class",
    "shared_parameters",
    "why_not_packable",
]
