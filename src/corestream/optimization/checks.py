"""What `optimize` refuses, before it changes anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from corestream.measure.inputs import ModelInputs
from corestream.optimization.passes import LEVELS
from corestream.optimization.tree import is_script

_DTYPES = (None, "auto", torch.float32, torch.bfloat16, torch.float16)


def check_arguments(
    model: Any, *, dtype: Any, inputs: ModelInputs | None, optimizer: Any, level: Any
) -> None:
    """Raises the first thing that is wrong."""
    _check_model(model)
    if optimizer is not None:
        raise NotImplementedError(
            f"optimizer must be None, since training is separate work; got "
            f"{type(optimizer).__name__}; train the plain model, under torch.autocast if you like, "
            f"and optimize it when it is trained"
        )
    if model.training:
        raise ValueError(
            "model must be in evaluation mode; got one in training mode; call model.eval() first"
        )
    if level not in LEVELS:
        raise ValueError(f'level must be "O0" or "O1"; got {level!r}; see optimization.table()')
    if dtype not in _DTYPES:
        raise ValueError(
            f'dtype must be torch.float32, torch.bfloat16, torch.float16, "auto" or None; got '
            f"{dtype!r}; pass one of these"
        )
    if dtype == "auto" and inputs is None:
        raise ValueError(
            'dtype must be given without example_inputs; got "auto", which measures the model on '
            "them; pass example_inputs as well"
        )


def check_options(switches: Mapping[str, Any], *, tolerance: Any) -> None:
    """Raises on a switch that is no bool, or a tolerance that no error can be compared with."""
    for name, value in switches.items():
        is_required = name in ("inplace", "exact_state_dict")
        if value not in (True, False) and (value is not None or is_required):
            allowed = "True or False" if is_required else "True, False or None"
            raise ValueError(f"{name} must be {allowed}; got {value!r}; pass one of these")
    if tolerance is None:
        return
    is_number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if not is_number or not tolerance >= 0:
        raise ValueError(
            f"tolerance must be a number of at least 0; got {tolerance!r}; pass None for the "
            f"dtype's own"
        )


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module; got {type(model).__name__}; pass the module")
    if is_script(model):
        raise TypeError(
            f"model must be an nn.Module that Python runs; got a {type(model).__name__}, whose "
            f"graph is fixed; optimize the module that it was made of, then trace that, or lower"
        )
    if type(model).__module__ == "torch._dynamo.eval_frame":
        raise TypeError(
            "model must not be compiled yet; got a compiled module; optimize the module that was "
            "given to torch.compile, then compile the result"
        )


def lowest_dtype(model: nn.Module) -> torch.dtype:
    """The narrowest floating dtype of the parameters: what results can be expected to hold."""
    found = {parameter.dtype for parameter in model.parameters()}
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        if dtype in found:
            return dtype
    return torch.float32
