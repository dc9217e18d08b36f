"""Calls of corestream's kernels that pass images on: pools, and concatenations of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from corestream.lowering.own_calls import Call, ConvolutionCall, pair
from corestream.ops.joining import JoinedPart, joined_convolutions
from corestream.ops.kernels import has_kernels
from corestream.ops.pooling import adaptive_avg_pool, avg_pool, max_pool

# Arguments of torch's pools after the image, and what they are if not given.
_MAX_POOL = {
    "kernel_size": None,
    "stride": None,
    "padding": 0,
    "dilation": 1,
    "ceil_mode": False,
    "return_indices": False,
}
_AVG_POOL = {
    "kernel_size": None,
    "stride": None,
    "padding": 0,
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
}
_ADAPTIVE = {"output_size": None}
_MEAN = {"dim": None, "keepdim": False, "dtype": None}
_SIZES = ("kernel_size", "stride", "padding", "dilation")


def is_our_image(image: Any) -> bool:
    """Whether it is a channels-last image in a dtype that this CPU has kernels of ours for."""
    return (
        isinstance(image, Tensor)
        and image.dim() == 4
        and image.stride(1) == 1
        and has_kernels(image.dtype)
    )


@dataclass(frozen=True)
class PoolCall(Call):
    """The largest of each window of an image, or the mean.

    Attributes:
        input: The image.
        pool: The operator, of ``input``, ``size`` and ``options``.
        size: Rows and columns of a window, or of the output.
        options: The others of the operator's arguments.
    """

    input: Tensor
    pool: Callable[..., Tensor]
    size: tuple[int, int]
    options: dict[str, Any]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_average: bool) -> Self | None:
        """Of the arguments of ``max_pool2d`` or ``avg_pool2d``; None where it is not ours."""
        given = _given(args, kwargs, defaults=_AVG_POOL if is_average else _MAX_POOL)
        if given is None:
            return None
        if given.pop("return_indices", False) or given.pop("divisor_override", None) is not None:
            return None
        if given["stride"] is None or given["stride"] in ([], ()):
            given["stride"] = given["kernel_size"]
        sizes = {name: given[name] for name in _SIZES if name in given}
        if not all(map(_is_plain, sizes.values())):
            return None
        options = given | {name: pair(size) for name, size in sizes.items()}
        kernel_size = options.pop("kernel_size")
        return cls(args[0], avg_pool if is_average else max_pool, kernel_size, options)

    @classmethod
    def of_adaptive(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Self | None:
        """Of the arguments of ``adaptive_avg_pool2d``; None where it is not ours."""
        given = _given(args, kwargs, defaults=_ADAPTIVE)
        if given is None or not _is_plain(given["output_size"]):
            return None
        return cls(args[0], adaptive_avg_pool, pair(given["output_size"]), {})

    @classmethod
    def of_mean(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Self | None:
        """Of the arguments of ``mean``, if it is that of each channel's image."""
        given = _given(args, kwargs, defaults=_MEAN)
        if given is None or given["dtype"] is not None:
            return None
        if not isinstance(given["dim"], (list, tuple)) or not _is_plain(given["dim"]):
            return None
        if sorted(dim % 4 for dim in given["dim"]) != [2, 3]:
            return None
        return cls(args[0], adaptive_avg_pool if given["keepdim"] else _image_mean, (1, 1), {})

    def sources(self) -> list[Tensor]:
        """As :meth:`Call.sources`."""
        return [self.input]

    def run(self) -> Tensor:
        """As :meth:`Call.run`."""
        return self.pool(self.input, self.size, **self.options)


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


def _image_mean(image: Tensor, size: tuple[int, int]) -> Tensor:
    return adaptive_avg_pool(image, size).flatten(1)


def _given(
    args: tuple[Any, ...], kwargs: dict[str, Any], *, defaults: dict[str, Any]
) -> dict[str, Any] | None:
    """A function's arguments after an image; None if there are others, or it is not ours."""
    given = defaults | dict(zip(defaults, args[1:], strict=False)) | kwargs
    return given if given.keys() == defaults.keys() and is_our_image(args[0]) else None


def _is_plain(size: Any) -> bool:
    """Whether it is the same for all images: sizes of tensors are tensors in a trace."""
    parts = size if isinstance(size, (list, tuple)) else (size,)
    return len(parts) in (1, 2) and all(type(part) is int for part in parts)


def _part(tensor: Tensor, call: Call | None) -> ConvolutionCall | Tensor:
    is_ours = isinstance(call, ConvolutionCall) and call.residual is None
    return call if is_ours else tensor  # type: ignore[return-value]
