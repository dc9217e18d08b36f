"""Whether oneDNN may compute fp32 convolutions and matrix products with shorter numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

FP32MathMode = Literal["ieee", "bf16", "tf32"]

_OPERATORS = ("conv", "matmul", "rnn")

_lock = threading.Lock()
_active: list[list[str]] = []
_found: dict[str, str] = {}


def _why_not(mode: str) -> str | None:
    """Why oneDNN would silently go on with fp32; None: it has kernels for the mode."""
    import torch

    if mode == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "no bf16 instructions that oneDNN uses"
    if mode == "tf32" and not torch.cpu._is_amx_fp16_supported():
        return "no AMX-FP16, without which torch ignores tf32"
    return None


def _settings() -> dict[str, str]:
    """What each kind of operator has set itself; "none": it follows the setting above."""
    import torch

    backend: Any = torch.backends.mkldnn
    above = backend.fp32_precision
    own = {name: getattr(backend, name).fp32_precision for name in _OPERATORS}
    return {name: "none" if value == above else value for name, value in own.items()}


def _apply(values: dict[str, str]) -> None:
    import torch

    for name, value in values.items():
        getattr(torch.backends.mkldnn, name).fp32_precision = value


@contextmanager
def fp32_math_mode(mode: FP32MathMode) -> Iterator[None]:
    """Allows oneDNN to round the inputs of fp32 convolutions, products and RNNs, inside the scope.

    Sums are kept in fp32 and tensors stay fp32. It is leave, not an order: oneDNN rounds where
    it has a kernel that gains by it, so compare results and times of your model. Scopes nest; of
    scopes in several threads the one entered last decides.

    Args:
        mode: "ieee": no rounding; "bf16": to bfloat16 (8 bits of precision), IPEX's
            ``FP32MathMode.BF32``; "tf32": to 11 bits, where the CPU has AMX-FP16.

    Yields:
        Nothing.

    Raises:
        ValueError: Another mode, or one that this CPU has no instructions for, so that torch
            would ignore it.

    Example:
        >>> from corestream.onednn import fp32_math_mode, get_fp32_math_mode
        >>> with fp32_math_mode("ieee"):
        ...     get_fp32_math_mode()
        {'conv': 'ieee', 'matmul': 'ieee', 'rnn': 'ieee'}

    Source: ``ipex.set_fp32_math_mode``, as a scope over ``torch.backends.mkldnn``.

    Thread-safe; the mode is the whole process's.
    """
    global _found
    if mode not in get_args(FP32MathMode):
        raise ValueError(
            f"mode must be 'ieee', 'bf16' or 'tf32'; got {mode!r}; IPEX's FP32 is 'ieee', its "
            f"BF32 'bf16'"
        )
    reason = _why_not(mode)
    if reason is not None:
        raise ValueError(
            f"mode must be one that this CPU can compute in; got {mode!r}, and the CPU has "
            f"{reason}; use 'ieee'"
        )
    entry = [str(mode)]
    with _lock:
        if not _active:
            _found = _settings()
        _apply(dict.fromkeys(_OPERATORS, mode))
        _active.append(entry)
    try:
        yield
    finally:
        with _lock:
            # By identity: scopes of other threads may hold an equal mode.
            _active[:] = [other for other in _active if other is not entry]
            _apply(dict.fromkeys(_OPERATORS, _active[-1][0]) if _active else _found)


def get_fp32_math_mode() -> dict[str, str]:
    """What oneDNN may do to fp32 convolutions, matrix products and RNNs now.

    Returns:
        "conv", "matmul" and "rnn", each with "ieee", "bf16", "tf32" or "none", which is torch's
        default: no rounding.

    Example:
        >>> from corestream.onednn import get_fp32_math_mode
        >>> sorted(get_fp32_math_mode())
        ['conv', 'matmul', 'rnn']

    Source: ``ipex.get_fp32_math_mode``.

    Thread-safe; the mode is the whole process's.
    """
    import torch

    backend: Any = torch.backends.mkldnn
    return {name: getattr(backend, name).fp32_precision for name in _OPERATORS}
