"""What torch computes without oneDNN, and layers and norms that have something to lose."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def native(call: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    """The result of torch's own kernels: a oneDNN kernel is not its own witness."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about TF32, on every change of the flags
        with torch.backends.mkldnn.flags(enabled=False), torch.no_grad():
            return call(*args, **kwargs)


def assert_close(actual: torch.Tensor, expected: torch.Tensor, *, tolerance: float = 1e-5) -> None:
    """Relative to the size of the values: oneDNN adds the products in another order."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    scale = expected.abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=tolerance * max(scale, 1.0))


def assert_same_bits(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.dtype == expected.dtype
    as_integers = {4: torch.int32, 2: torch.int16}[expected.element_size()]
    actual, expected = actual.contiguous(), expected.detach().contiguous()
    assert actual.view(as_integers).equal(expected.view(as_integers))


def trained_norm(channels: int, dims: int = 2) -> nn.Module:
    """A batch norm in eval mode whose statistics and weights are not the initial ones."""
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](channels)
    with torch.no_grad():
        norm.weight.uniform_(-2, 2)
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 3)
    return norm.eval()


def folded_pair(conv: nn.Module, norm: nn.Module, **options: Any) -> nn.Sequential:
    from corestream.nn import FoldedBatchNorm, batch_norm_affine, packed_class

    scale, shift = batch_norm_affine(norm)
    packed = packed_class(type(conv)).from_module(conv, scale=scale, shift=shift, **options)
    return nn.Sequential(packed, FoldedBatchNorm.from_module(norm, into=packed))
