"""What a package was compiled for, input by input, so that other tensors are made to fit.

AOTInductor's code reads its inputs' memory as the example's was laid out, and checks nothing: a
channels-last image given to code for contiguous ones gives wrong numbers, a smaller one reads
memory that is not its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

# The key of a package's metadata, where torch keeps a text with every package.
METADATA_KEY = "corestream_inputs"
ANY_SIZE = -1


@dataclass(frozen=True)
class InputLayout:
    """The dtype, sizes and strides that a package's code expects of one input.

    Attributes:
        dtype: The only dtype.
        sizes: ANY_SIZE where any size fits, which is dim 0 alone.
        strides: In elements. Dimensions of one element may have any.

    Thread-safe: a value that never changes.
    """

    dtype: torch.dtype
    sizes: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor, *, any_batch: bool) -> Self:
        """The layout of an example; with `any_batch`, of any number of its items."""
        sizes = tuple(tensor.shape)
        if any_batch and sizes:
            sizes = (ANY_SIZE, *sizes[1:])
        return cls(tensor.dtype, sizes, tuple(tensor.stride()))

    def fit(self, tensor: Tensor, *, name: str) -> Tensor:
        """`tensor`, or a copy that is laid out as the code expects it.

        Raises:
            TypeError: It has another dtype; nothing is cast silently.
            ValueError: It has other sizes.
        """
        if tensor.dtype != self.dtype:
            raise TypeError(
                f"{name} must be {self.dtype}, which the model was lowered for; got "
                f"{tensor.dtype}; cast it, or lower the model with such an example"
            )
        pairs = zip(tensor.shape, self.sizes, strict=False)
        if tensor.dim() != len(self.sizes) or any(e not in (a, ANY_SIZE) for a, e in pairs):
            raise ValueError(
                f"{name} must have the sizes {self._sizes_text()}, which the model was lowered "
                f"for; got {list(tensor.shape)}; lower it with such an example"
            )
        steps = zip(tensor.shape, tensor.stride(), self.strides, strict=True)
        if all(size == 1 or actual == expected for size, actual, expected in steps):
            return tensor
        # The outermost dimension alone may have any size, so the strides hold for all of them.
        return torch.empty_strided(
            tensor.shape, self.strides, dtype=tensor.dtype, device=tensor.device
        ).copy_(tensor.detach())

    def _sizes_text(self) -> str:
        return "[" + ", ".join("any" if s == ANY_SIZE else str(s) for s in self.sizes) + "]"

    def to_text(self) -> str:
        """One line, for a package's metadata."""
        columns = (self.sizes, self.strides)
        numbers = (",".join(map(str, column)) for column in columns)
        return "|".join((str(self.dtype).removeprefix("torch."), *numbers))

    @classmethod
    def from_text(cls, line: str) -> Self:
        """The layout that :meth:`to_text` wrote."""
        dtype, *columns = line.split("|")
        sizes, strides = (tuple(int(n) for n in column.split(",") if n) for column in columns)
        return cls(getattr(torch, dtype), sizes, strides)


def dense(tensor: Tensor) -> Tensor:
    """`tensor` with its batch outermost and no gaps: as it is, channels last, or contiguous."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if tensor.is_contiguous():
        return tensor
    memory_format = formats.get(tensor.dim())
    if memory_format is not None and tensor.is_contiguous(memory_format=memory_format):
        return tensor
    return tensor.contiguous()


@dataclass(frozen=True)
class InputContract:
    """What a package takes: the layout of each tensor, the value of everything else.

    Attributes:
        layouts: One for each tensor among the flat arguments.
        constants: The repr of each other argument, whose value is part of the code.

    Thread-safe: a value that never changes.
    """

    layouts: tuple[InputLayout, ...]
    constants: tuple[str, ...]

    @classmethod
    def of(cls, leaves: Sequence[Any], *, any_batch: bool) -> Self:
        """The contract of code that is compiled for these flat arguments."""
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        layouts = [InputLayout.of(tensor, any_batch=any_batch) for tensor in tensors]
        return cls(tuple(layouts), tuple(_other_leaves(leaves)))

    def fit(self, leaves: Sequence[Any]) -> list[Tensor]:
        """The tensors among flat arguments, laid out as the code reads them.

        Raises:
            TypeError: A tensor has another dtype.
            ValueError: A tensor has other sizes, or another argument another value.
        """
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        others = _other_leaves(leaves)
        if len(tensors) != len(self.layouts) or others != list(self.constants):
            raise ValueError(
                f"the arguments besides {len(self.layouts)} tensors must be "
                f"[{', '.join(self.constants)}], which are part of the lowered code; got "
                f"{len(tensors)} tensors and [{', '.join(others)}]; lower the model with such an "
                f"example"
            )
        pairs = list(zip(tensors, self.layouts, strict=True))
        fitted = [layout.fit(tensor, name=f"input {i}") for i, (tensor, layout) in enumerate(pairs)]
        batches = {len(tensor) for tensor, layout in pairs if ANY_SIZE in layout.sizes}
        if len(batches) > 1:
            raise ValueError(
                f"the inputs must have one size of dim 0, as in the example; got "
                f"{sorted(batches)}; expand the smaller ones"
            )
        return fitted

    def to_text(self) -> str:
        """A line for each input, for a package's metadata."""
        lines = [layout.to_text() for layout in self.layouts]
        return "\n".join(lines + [f"={json.dumps(constant)}" for constant in self.constants])

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The contract that :meth:`to_text` wrote."""
        lines = text.splitlines()
        layouts = [InputLayout.from_text(line) for line in lines if not line.startswith("=")]
        constants = [json.loads(line[1:]) for line in lines if line.startswith("=")]
        return cls(tuple(layouts), tuple(constants))


def _other_leaves(leaves: Sequence[Any]) -> list[str]:
    return [repr(leaf) for leaf in leaves if not isinstance(leaf, Tensor)]
