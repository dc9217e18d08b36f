"""What is left of a batch norm that was folded into the layer before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from corestream.nn.packed import PackedLayer

__all__ = ["FoldedBatchNorm", "batch_norm_affine"]


# What the affine map is made of.
_STATE = ("weight", "bias", "running_mean", "running_var", "eps")


def batch_norm_affine(norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """What a batch norm does in eval mode, as one multiplication and one addition.

    Args:
        norm: An nn.BatchNorm1d, 2d or 3d with running statistics.

    Returns:
        Scale and shift: fp64, one value per channel each.

    Raises:
        ValueError: It has no running statistics, or is none.

    Example:
        >>> import torch
        >>> from corestream.nn import batch_norm_affine
        >>> scale, shift = batch_norm_affine(torch.nn.BatchNorm2d(2, eps=0.0))
        >>> scale.tolist(), shift.tolist()
        ([1.0, 1.0], [0.0, 0.0])

    Thread-safe while nobody changes the norm; holds the GIL.
    """
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or norm.running_var is None:
        raise ValueError(
            f"norm must be a batch norm with running statistics; got {norm!r}; leave it as it is"
        )
    mean, var = _exact(norm.running_mean), _exact(norm.running_var)
    scale = (var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * _exact(norm.weight)
    shift = -mean * scale
    return scale, shift + _exact(norm.bias) if norm.affine else shift


def _exact(values: torch.Tensor) -> torch.Tensor:
    return values.detach().to("cpu", torch.float64)


class FoldedBatchNorm(_BatchNorm):
    """A batch norm whose work a packed layer does: it keeps its state and returns its input.

    Loading, assigning or converting its state has the layer fold the new values; writing to them
    in place does not. It cannot train: in
    training mode a call raises RuntimeError. `restore` gives the batch norm back; the layer then
    has to be restored as well.

    Example:
        >>> import torch
        >>> from corestream.nn import FoldedBatchNorm, PackedConv2d, batch_norm_affine
        >>> conv, norm = torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8).eval()
        >>> scale, shift = batch_norm_affine(norm)
        >>> packed = PackedConv2d.from_module(conv, scale=scale, shift=shift)
        >>> model = torch.nn.Sequential(packed, FoldedBatchNorm.from_module(norm, into=packed))
        >>> x = torch.randn(2, 3, 9, 9)
        >>> with torch.no_grad():
        ...     bool(torch.allclose(model(x), norm(conv(x)), atol=1e-5))
        True

    Any number of threads may call it at once; new values may be loaded meanwhile. Holds the GIL.
    """

    _kind: type[nn.Module]
    # In a tuple, so that it is no submodule: its state is elsewhere.
    _into: tuple[PackedLayer]

    @classmethod
    def from_module(cls, module: nn.Module, *, into: PackedLayer) -> Self:
        """What stands in place of `module` once its `batch_norm_affine` is folded into `into`.

        Args:
            module: The batch norm, in eval mode, with running statistics.
            into: The packed layer before it.

        Raises:
            ValueError: `module` is no batch norm with running statistics.
        """
        into.fold(*batch_norm_affine(module))
        norm = cls.__new__(cls)
        norm.__dict__.update(module.__dict__)
        norm.__dict__.update(_kind=type(module), _into=(into,))
        return norm

    @property
    def into(self) -> PackedLayer:
        """The layer that does its work."""
        return self._into[0]

    def restore(self) -> nn.Module:
        """The batch norm, with its own parameters and buffers."""
        plain = self._kind.__new__(self._kind)
        plain.__dict__.update(self.__dict__)
        for name in ("_kind", "_into"):
            del plain.__dict__[name]
        return plain

    def forward(
        self,
        input: torch.Tensor,  # noqa: A002 -- as torch.nn calls it
    ) -> torch.Tensor:
        """Returns `input`, which the layer before has normalised already."""
        if self.training:
            raise RuntimeError(
                "a folded batch norm must be in eval mode; got training=True; call .eval(), or "
                "train the model that this one was optimised from"
            )
        return input

    def extra_repr(self) -> str:
        """As of the batch norm."""
        return f"{super().extra_repr()}, folded"  # type: ignore[no-untyped-call]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in _STATE:
            self._refold()

    def _refold(self) -> None:
        if self.running_mean is None or self.running_mean.is_meta:
            return
        self.into.fold(*batch_norm_affine(self))

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._refold()
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._refold()
