"""One matrix product in each arithmetic, timed in turns on one thread; runs in a fresh process."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

SIZE = 512
"""Rows and columns: the operands fit in a core's L2, and fp16 in software still ends."""

BUDGET_S = 1.5
BASELINE = "fp32"


def measure_products() -> dict[str, dict[str, Any]]:
    """Time the products and return the fields of `Product` for each, JSON-ready.

    One thread, because a quota or an oversubscribed machine must not decide which arithmetic is
    fast. Sets torch's number of threads.
    """
    import torch

    from corestream.measure.timing import compare_times, is_faster, speedup

    torch.set_num_threads(1)
    calls, errors = {}, {}
    with torch.inference_mode():
        for name, prepare in _PRODUCTS.items():
            try:
                calls[name] = prepare(torch)
                calls[name]()
            except Exception as error:  # noqa: BLE001 (whatever it is: this arithmetic is not there)
                calls.pop(name, None)
                errors[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        timings = compare_times(calls, budget_s=BUDGET_S)
    found: dict[str, dict[str, Any]] = {
        name: {"median_s": None, "times_as_fast": None, "error": text}
        for name, text in errors.items()
    }
    baseline = timings.get(BASELINE)
    for name, timing in timings.items():
        found[name] = {"median_s": timing.median_s, "times_as_fast": None}
        if baseline is not None:
            found[name] |= {
                "times_as_fast": speedup(timing, baseline),
                "is_faster": is_faster(timing, baseline),
                "is_slower": is_faster(baseline, timing),
            }
    return found


def _matmul(torch: Any, *, dtype: str) -> Callable[[], Any]:
    left, right = (torch.randn(SIZE, SIZE).to(getattr(torch, dtype)) for _ in range(2))
    return functools.partial(torch.mm, left, right)


def _fp16_linear(torch: Any) -> Callable[[], Any]:
    # The transposed weight of a linear layer reaches another kernel: several times as fast where
    # fp16 is done in software.
    left, right = (torch.randn(SIZE, SIZE).half() for _ in range(2))
    return functools.partial(torch.nn.functional.linear, left, right)


def _onednn(torch: Any) -> Callable[[], Any]:
    # torch's own fp32 products go to MKL; this is the operator that lowered models call.
    left, right = (torch.randn(SIZE, SIZE) for _ in range(2))
    operator = torch.ops.mkldnn._linear_pointwise
    return functools.partial(operator, left, right, None, "none", [], "")


def _int8(torch: Any) -> Callable[[], Any]:
    left = torch.randint(0, 255, (SIZE, SIZE), dtype=torch.uint8)
    weight = torch.randint(-128, 127, (SIZE, SIZE), dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weight, [SIZE, SIZE])
    scales, zeros = torch.ones(SIZE), torch.zeros(SIZE, dtype=torch.int64)
    operator = torch.ops.onednn.qlinear_pointwise
    last: tuple[Any, ...] = (None, 1.0, 0, torch.float32, "none", [], "")
    return functools.partial(operator, left, 0.1, 0, packed, scales, zeros, *last)


_PRODUCTS: dict[str, Callable[[Any], Callable[[], Any]]] = {
    BASELINE: functools.partial(_matmul, dtype="float32"),
    "fp32 oneDNN": _onednn,
    "bf16": functools.partial(_matmul, dtype="bfloat16"),
    "fp16": functools.partial(_matmul, dtype="float16"),
    "fp16 linear": _fp16_linear,
    "int8": _int8,
}
