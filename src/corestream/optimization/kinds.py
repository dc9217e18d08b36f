"""The kinds of layers that the passes know, by exact type: a subclass may do anything."""

from __future__ import annotations

from torch import nn

from corestream.nn import FoldedBatchNorm, PackedLayer

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_CONVOLUTIONS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

_LAYERS = {*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS, *BATCH_NORMS, nn.Linear}


def is_layer(module: nn.Module) -> bool:
    """Whether it is a layer that a pass may replace: torch's own, or one that was replaced."""
    return type(module) in _LAYERS or isinstance(module, PackedLayer | FoldedBatchNorm)
