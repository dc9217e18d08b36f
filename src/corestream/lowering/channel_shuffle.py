"""Channel shuffles of channels-last images as one pass, in what is traced or exported.

Models shuffle by ``view``, ``transpose``, ``contiguous`` and ``view``. For channels-last images
that copies into a layout that the next convolution has to undo: a quarter of ShuffleNetV2's time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from corestream.lowering.notes import Notes
from corestream.lowering.sizes import are_equal, not_traced
from corestream.ops.channels import interleave_channels

_Function = Callable[..., Any]

_JOINS = {torch.cat, torch.concat, torch.concatenate}
_SHUFFLES = {torch.channel_shuffle, torch.nn.functional.channel_shuffle}
_RESHAPES = {
    Tensor.view,
    Tensor.reshape,
    Tensor.flatten,
    Tensor.unflatten,
    torch.reshape,
    torch.flatten,
    torch.unflatten,
}
_COPIES = {Tensor.contiguous, Tensor.clone, torch.clone}
_SWAPS = {Tensor.transpose, Tensor.swapaxes, Tensor.swapdims, torch.transpose, torch.swapaxes}
_PERMUTES = {Tensor.permute, torch.permute}


@dataclass(frozen=True)
class _Groups:
    """Channels on their way through a shuffle: (batch, groups, channels, height, width)."""

    source: Tensor
    count: int
    is_swapped: bool = False


class OwnChannelShuffle(TorchFunctionMode):
    """Within it, shuffles of channels-last images go to `interleave_channels`.

    What led to a shuffle is recorded, too, without a use: graphs drop it.

    Attributes:
        num_found: How many shuffles it has replaced.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_found = 0
        self._joined: Notes[tuple[Tensor, ...]] = Notes()
        self._groups: Notes[_Groups] = Notes()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Follows the steps of a shuffle, and takes the place of the last."""
        kwargs = kwargs or {}
        if func in _SHUFFLES:
            return self._shuffled(func, args, kwargs)
        result = func(*args, **kwargs)
        if func in _JOINS:
            self._note_join(result, *args, **kwargs)
        elif func in _RESHAPES:
            return self._reshaped(args[0] if args else None, result)
        elif func in _COPIES or _swaps_groups(func, args, kwargs):
            self._follow(args[0] if args else None, result, is_swap=func not in _COPIES)
        return result

    def _shuffled(self, func: _Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) == 2 and not kwargs and _is_channels_last(args[0]):
            return self._interleave(args[0], int(args[1]))
        return func(*args, **kwargs)

    def _note_join(self, result: Tensor, tensors: Sequence[Tensor], dim: int = 0, **_: Any) -> None:
        if dim in (1, -3) and _is_channels_last(result):
            self._joined.keep(result, tuple(tensors), sources=tensors)

    def _reshaped(self, source: Any, result: Tensor) -> Tensor:
        """The interleaved image at the end of a shuffle; the groups at its begin are noted."""
        groups = self._groups.about(source)
        with not_traced():
            if _is_channels_last(source) and _are_groups_of(source, result):
                found = _Groups(source, int(result.shape[1]))
                self._groups.keep(result, found, sources=[source])
            if groups is None or not groups.is_swapped or not _are_alike(groups.source, result):
                return result
        return self._interleave(groups.source, groups.count)

    def _follow(self, source: Any, result: Tensor, *, is_swap: bool) -> None:
        groups = self._groups.about(source)
        if groups is not None:
            found = replace(groups, is_swapped=groups.is_swapped != is_swap)
            self._groups.keep(result, found, sources=[groups.source])

    def _interleave(self, image: Tensor, count: int) -> Tensor:
        self.num_found += 1
        parts = self._joined.about(image)
        if parts is None or not _are_equal_parts(parts, count):
            parts = image.chunk(count, dim=1)
        return interleave_channels(parts)


def _is_channels_last(image: Any) -> bool:
    with not_traced():
        return (
            isinstance(image, Tensor)
            and image.dim() == 4
            and are_equal(image.stride(1), 1)
            and not are_equal(image.stride(3), 1)
        )


def _swaps_groups(func: _Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether it makes (batch, channels, groups, ...) of (batch, groups, channels, ...)."""
    if kwargs or not args or not isinstance(args[0], Tensor) or args[0].dim() != 5:
        return False
    if func in _SWAPS:
        return {dim % 5 for dim in args[1:]} == {1, 2}
    if func in _PERMUTES:
        dims = args[1] if len(args) == 2 else args[1:]
        return [dim % 5 for dim in dims] == [0, 2, 1, 3, 4]
    return False


def _are_groups_of(image: Tensor, result: Tensor) -> bool:
    return result.dim() == 5 and all(
        are_equal(left, right)
        for left, right in (
            (image.shape[0], result.shape[0]),
            (image.shape[1], result.shape[1] * result.shape[2]),
            (image.shape[2], result.shape[3]),
            (image.shape[3], result.shape[4]),
        )
    )


def _are_alike(left: Tensor, right: Tensor) -> bool:
    return left.dim() == right.dim() and all(map(are_equal, left.shape, right.shape))


def _are_equal_parts(parts: Sequence[Tensor], count: int) -> bool:
    with not_traced():
        return (
            len(parts) == count
            and all(_are_alike(part, parts[0]) and part.dtype == parts[0].dtype for part in parts)
            and all(map(_is_channels_last, parts))
        )
