"""Attention of corestream's own against torch's fused kernel, on one thread, in turns."""

from __future__ import annotations

import statistics

import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.measure import Effort, ratios, time_in_turns
from benchmarks.models import DTYPES
from benchmarks.report import Report, Row, Target
from corestream.ops import attention, has_attention_kernel

NAME = "attention"
TITLE = "torch's fused attention over corestream.ops.attention, one thread"

# (batch, heads, tokens, head size): BERT-base, ViT-B/16, MiniLM, longer texts.
SHAPES = ((4, 12, 128, 64), (4, 12, 197, 64), (8, 12, 32, 32), (1, 12, 512, 64), (1, 12, 2048, 64))


def _row(shape: tuple[int, int, int, int], *, dtype: str, effort: Effort) -> Row:
    batch, heads, tokens, head_size = shape
    query, key, value = (
        torch.randn(batch, tokens, heads, head_size).to(DTYPES[dtype]).transpose(1, 2)
        for _ in range(3)
    )
    turns = time_in_turns(
        {
            "torch": lambda: scaled_dot_product_attention(query, key, value),
            "ours": lambda: attention(query, key, value),
        },
        effort=effort,
    )
    flops = 4.0 * batch * heads * tokens**2 * head_size
    notes = {
        name: f"{flops / statistics.median(seconds) / 1e9:.0f} GFLOP/s"
        for name, seconds in turns.items()
    }
    has_kernel = has_attention_kernel(DTYPES[dtype], head_size=head_size, num_keys=tokens)
    target = Target(at_least=1.0) if has_kernel else None
    name = f"{dtype} {batch} × {heads} × {tokens} × {head_size}"
    return Row(name, ratios(turns["torch"], turns["ours"]), "×", target, notes)


def run(effort: Effort) -> Report:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            rows = [
                _row(shape, dtype=dtype, effort=effort)
                for dtype in ("fp32", "bf16")
                for shape in SHAPES
            ]
    finally:
        torch.set_num_threads(before)
    remarks = "Rows without a target: this CPU has no kernel of ours for them, so both are torch's."
    return Report(NAME, TITLE, rows, [remarks])
