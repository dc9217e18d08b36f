"""The channel shuffle of grouped convolutions in one pass over memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corestream import _native

_native.torch_ext  # noqa: B018 (registers the operator: models that call it can be loaded)


def interleave_channels(parts: Sequence[Tensor]) -> Tensor:
    """The channels of the parts in turn: the first of each, then the second of each.

    That is a concatenation and a channel shuffle with as many groups as parts, for which torch
    passes over memory twice to four times and changes a channels-last layout. Images whose
    channels lie next to each other keep them so; other layouts, and what needs a gradient, go
    through torch's ``stack``.

    Args:
        parts: One or more tensors of one shape (batch, channels, ...) and one dtype, on the CPU.

    Returns:
        (batch, channels * number of parts, ...), of the same dtype; channel
        ``i * len(parts) + g`` is channel ``i`` of part ``g``.

    Raises:
        ValueError: There is no part.
        RuntimeError: The shapes or dtypes differ.

    Example:
        >>> import torch
        >>> x = torch.randn(2, 6, 4, 4)
        >>> shuffled = torch.nn.functional.channel_shuffle(x, 3)
        >>> torch.equal(interleave_channels(x.chunk(3, dim=1)), shuffled)
        True

    Source: Zhang et al., ShuffleNet (2018), section 3.1.

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    if not parts:
        raise ValueError(f"parts must hold a tensor; got {parts!r}; pass the groups of channels")
    result: Tensor = torch.ops.corestream.interleave_channels(list(parts))
    return result
