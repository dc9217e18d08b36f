"""Which packed class replaces which class of torch.nn."""

from __future__ import annotations

from torch import nn

from corestream.nn.conv import (
    PackedConv1d,
    PackedConv2d,
    PackedConv3d,
    PackedConvTranspose2d,
    PackedConvTranspose3d,
)
from corestream.nn.linear import PackedLinear
from corestream.nn.packed import PackedLayer

__all__ = ["packed_class"]

_PACKED: tuple[type[PackedLayer], ...] = (
    PackedConv1d,
    PackedConv2d,
    PackedConv3d,
    PackedConvTranspose2d,
    PackedConvTranspose3d,
    PackedLinear,
)


def packed_class(kind: type[nn.Module]) -> type[PackedLayer] | None:
    """The class whose `from_module` packs layers of that class.

    Args:
        kind: The class of a layer.

    Returns:
        The packed class; None if there is none.

    Example:
        >>> import torch
        >>> from corestream.nn import packed_class
        >>> packed_class(torch.nn.Conv2d).__name__
        'PackedConv2d'

    Thread-safe; holds the GIL.
    """
    return next((packed for packed in _PACKED if packed._replaces is kind), None)
