"""Calls of corestream's kernels that pass images on: pools, and concatenations of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from corestream.lowering.own_calls import Call, ConvolutionCall, pair
from corestream.ops.joining import JoinedPart, joined_convolutions
from corestream.ops.linear import has_linear_kernel
from corestream.ops.pooling import avg_pool, max_pool


def is_our_image(image: Any) -> bool:
    """Whether it is a channels-last image in a dtype that this CPU has kernels of ours for."""
    return (
        isinstance(image, Tensor)
        and image.dim() == 4
        and image.stride(1) == 1
        and has_linear_kernel(image.dtype)
    )


@dataclass(frozen=True)
class PoolCall(Call):
    """The largest of each window of an image, or the mean.

    Attributes:
        input: The image.
        pool: The operator, of ``input`` and ``options``.
        kernel_size: Rows and columns of a window.
        options: The others of the operator's arguments.
    """

    input: Tensor
    pool: Callable[..., Tensor]
    kernel_size: tuple[int, int]
    options: dict[str, Any]

    @classmethod
    def of_max(
        cls,
        input: Tensor,  # noqa: A002 (as torch has it)
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Self | None:
        """Of the arguments of ``max_pool2d``; None where there is no kernel of ours."""
        if return_indices or not is_our_image(input):
            return None
        options = {"dilation": pair(dilation), "ceil_mode": bool(ceil_mode)}
        return cls._of(input, max_pool, kernel_size, stride, padding, options)

    @classmethod
    def of_avg(
        cls,
        input: Tensor,  # noqa: A002 (as torch has it)
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Self | None:
        """Of the arguments of ``avg_pool2d``; None where there is no kernel of ours."""
        if divisor_override is not None or not is_our_image(input):
            return None
        options = {"ceil_mode": bool(ceil_mode), "count_include_pad": bool(count_include_pad)}
        return cls._of(input, avg_pool, kernel_size, stride, padding, options)

    @classmethod
    def _of(
        cls,
        image: Tensor,
        pool: Callable[..., Tensor],
        kernel_size: Any,
        stride: Any,
        padding: Any,
        options: dict[str, Any],
    ) -> Self:
        kernel = pair(kernel_size)
        # torch takes an empty list or tuple for the default, too.
        step = pair(stride) if stride not in (None, [], ()) else kernel
        return cls(image, pool, kernel, options | {"stride": step, "padding": pair(padding)})

    def sources(self) -> list[Tensor]:
        """As :meth:`Call.sources`."""
        return [self.input]

    def run(self) -> Tensor:
        """As :meth:`Call.run`."""
        return self.pool(self.input, self.kernel_size, **self.options)


@dataclass(frozen=True)
class JoinedCall(Call):
    """A concatenation along channels that convolutions write into.

    Attributes:
        parts: Convolutions that nobody else reads, and images.
    """

    parts: tuple[ConvolutionCall | Tensor, ...]

    @classmethod
    def of(
        cls,
        tensors: Sequence[Tensor],
        dim: int = 0,
        *,
        opened: Callable[[Tensor], Call | None],
    ) -> Self | None:
        """Of the arguments of ``cat``; None where that copies as little.

        Args:
            tensors: What is joined.
            dim: Along which dim.
            opened: The call of ours that a tensor is the result of, if no one else reads it.
        """
        if dim not in (1, -3) or not all(map(is_our_image, tensors)):
            return None
        if len({tensor.dtype for tensor in tensors}) != 1:
            return None
        parts = tuple([_part(tensor, opened(tensor)) for tensor in tensors])
        is_of_use = any(isinstance(part, ConvolutionCall) for part in parts)
        return cls(parts) if is_of_use else None

    def sources(self) -> list[Tensor]:
        """As :meth:`Call.sources`."""
        return [part if isinstance(part, Tensor) else part.input for part in self.parts]

    def run(self) -> Tensor:
        """As :meth:`Call.run`."""
        return joined_convolutions(
            [
                JoinedPart(input=part) if isinstance(part, Tensor) else part.part()
                for part in self.parts
            ]
        )


def _part(tensor: Tensor, call: Call | None) -> ConvolutionCall | Tensor:
    is_ours = isinstance(call, ConvolutionCall) and call.residual is None
    return call if is_ours else tensor  # type: ignore[return-value]
