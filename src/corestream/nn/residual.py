"""What an estimate of a weight lacks to be the weight, bit for bit, in as few bytes as possible.

A packed layer keeps the weight that its kernel reads: scaled by a folded batch norm, or rounded to
bfloat16. Undoing that gives the original but for the last bits. Those are kept: the difference of
the bit patterns as integers, a chunk at a time, each in the width that takes the fewest bytes,
with what does not fit listed beside it. Any bits of any weight come back, whatever the estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

__all__ = ["Residual", "decode", "encode", "estimate", "have_same_bits"]

# Bounds what encoding needs besides the weight, and keeps one odd part from widening the others.
_CHUNK = 1 << 17
# 2: an unscaled fp32 weight; 16: a rounded one; 18: rounded and scaled.
_WIDTHS = (0, 2, 8, 16, 18, 32)
_EXCEPTION_BITS = 64
_SMALLEST_NORMAL = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class _Chunk:
    width: int
    low: torch.Tensor | None  # int8, int16 or int32: the lower bits, whole integers each
    pairs: torch.Tensor | None  # uint8: two bits of four values each
    at: torch.Tensor | None  # int32: which values are exceptions
    exceptions: torch.Tensor | None  # int32: the differences there

    def tensors(self) -> Iterator[torch.Tensor]:
        parts = (self.low, self.pairs, self.at, self.exceptions)
        return (part for part in parts if part is not None)


@dataclass(frozen=True)
class Residual:
    """What to add to the bits of an estimate; `decode` does."""

    chunks: tuple[_Chunk, ...]
    lost: torch.Tensor  # int64: the blocks that are kept whole, for the estimate tells nothing
    whole: torch.Tensor  # (lost, size of a block), in the dtype of the original

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        parts = sum(part.nbytes for chunk in self.chunks for part in chunk.tensors())
        return parts + self.lost.nbytes + self.whole.nbytes


def estimate(held: torch.Tensor, scale: torch.Tensor | None, *, dtype: torch.dtype) -> torch.Tensor:
    """The weight before it was scaled and rounded to `held`, as well as that can be told.

    Never denormal, infinite or NaN where a scale is undone: those depend on the thread's
    floating-point mode, and decoding must find what encoding found.
    """
    if scale is None:
        return held.to(dtype)
    unscaled = held.to(torch.float64).div_(scale).to(torch.float32)
    # An input that is denormal counts as 0 where the thread flushes denormals.
    is_sound = unscaled.isfinite() & (unscaled.abs() >= _SMALLEST_NORMAL)
    is_sound &= held.abs() >= max(_SMALLEST_NORMAL, torch.finfo(held.dtype).tiny)
    return torch.where(is_sound, unscaled, 0.0).to(dtype)


def encode(
    original: torch.Tensor,
    estimate_of: Callable[[int, int], torch.Tensor],
    *,
    lost: torch.Tensor | None = None,
) -> Residual:
    """What `decode` needs besides the estimate to give `original` back.

    `estimate_of(start, stop)` is the estimate of the flattened values from start to stop. `lost`
    has one bool for each of the blocks, of equal size, that the values fall into: those of pruned
    channels, whose estimate is 0, are kept as they are.
    """
    lost = torch.zeros(1, dtype=torch.bool) if lost is None else lost
    blocks, at = original.reshape(lost.numel(), -1), lost.nonzero().view(-1)
    whole = blocks[at]
    if at.numel():
        blocks = blocks.index_fill(0, at, 0.0)
    values = blocks.reshape(-1)
    chunks = (
        _encode_chunk(_bits(values[start:stop]) - _bits(estimate_of(start, stop)))
        for start, stop in _ranges(values.numel())
    )
    return Residual(tuple(chunks), at, whole)


def decode(
    residual: Residual | None,
    into: torch.Tensor,
    *,
    estimate_of: Callable[[int, int], torch.Tensor],
) -> torch.Tensor:
    """Fills the contiguous tensor `into` with the original, or the estimate without a residual."""
    values = into.view(-1)
    for number, (start, stop) in enumerate(_ranges(values.numel())):
        guess = estimate_of(start, stop)
        if residual is not None:
            guess = _from_bits(
                _bits(guess) + _differences(residual.chunks[number], stop - start), guess.dtype
            )
        values[start:stop] = guess
    if residual is not None and residual.lost.numel():
        into.view(-1, residual.whole.shape[1])[residual.lost] = residual.whole
    return into


def have_same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether they are equal, NaN and the sign of 0 included."""
    as_integers = torch.int32 if one.dtype is torch.float32 else torch.int16
    return one.contiguous().view(as_integers).equal(other.contiguous().view(as_integers))


def _ranges(count: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))


def _bits(values: torch.Tensor) -> torch.Tensor:
    is_wide = values.dtype is torch.float32
    return values.view(torch.int32) if is_wide else values.view(torch.int16).to(torch.int32)


def _from_bits(bits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return bits.view(dtype) if dtype is torch.float32 else bits.to(torch.int16).view(dtype)


def _encode_chunk(differences: torch.Tensor) -> _Chunk:
    outside = {width: _is_outside(differences, width) for width in _WIDTHS}
    misfits = {width: int(mask.sum()) for width, mask in outside.items()}
    count = differences.numel()
    width = min(_WIDTHS, key=lambda width: width * count + misfits[width] * _EXCEPTION_BITS)
    at = exceptions = None
    if misfits[width]:
        at = outside[width].nonzero().view(-1)
        exceptions, at = differences[at], at.to(torch.int32)
        differences = differences.masked_fill(outside[width], 0)
    low_dtype = {8: torch.int8, 16: torch.int16, 18: torch.int16, 32: torch.int32}.get(width)
    low = differences.to(low_dtype) if low_dtype is not None else None
    pairs = (
        _pack_pairs(differences if low is None else differences >> 16) if width in (2, 18) else None
    )
    return _Chunk(width, low, pairs, at, exceptions)


def _is_outside(differences: torch.Tensor, width: int) -> torch.Tensor:
    if width == 0:
        return differences != 0
    limit = 1 << (width - 1)
    return (differences < -limit) | (differences > limit - 1)


def _differences(chunk: _Chunk, count: int) -> torch.Tensor:
    low = None if chunk.low is None else chunk.low.to(torch.int32)
    pairs = None if chunk.pairs is None else _unpack_pairs(chunk.pairs, count)
    if low is not None:
        found = low if pairs is None else (pairs << 16) | (low & 0xFFFF)
    else:
        found = torch.zeros(count, dtype=torch.int32) if pairs is None else pairs
    if chunk.at is not None and chunk.exceptions is not None:
        found[chunk.at.long()] = chunk.exceptions
    return found


def _pack_pairs(values: torch.Tensor) -> torch.Tensor:
    """Four values from -2 to 1 a byte."""
    padded = torch.nn.functional.pad(values & 3, (0, -values.numel() % 4)).view(-1, 4)
    return (padded << _shifts()).sum(dim=1).to(torch.uint8)


def _unpack_pairs(packed: torch.Tensor, count: int) -> torch.Tensor:
    values = (packed.to(torch.int32).unsqueeze(1) >> _shifts()) & 3
    return ((values ^ 2) - 2).view(-1)[:count]


def _shifts() -> torch.Tensor:
    return torch.tensor([0, 2, 4, 6], dtype=torch.int32)
