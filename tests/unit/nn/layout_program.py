"""Prints what oneDNN runs and reorders, as ONEDNN_VERBOSE has it; run by test_layouts.py."""

from __future__ import annotations

import sys

import torch
from torch import nn

from corestream.nn import PackedConv2d, PackedLinear


def say(text: str) -> None:
    # Flushed: oneDNN writes through a buffer of its own.
    sys.stdout.write(f"## {text}\n")
    sys.stdout.flush()


def main() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    layers = {
        "conv": (PackedConv2d.from_module(conv, input_size=(1, 64, 56, 56)), (1, 64, 56, 56)),
        "linear": (PackedLinear.from_module(nn.Linear(256, 256)), (32, 256)),
    }
    with torch.no_grad():
        for name, (layer, shape) in layers.items():
            last = torch.channels_last if len(shape) == 4 else torch.contiguous_format
            for turn, threads in enumerate((1, 2, 3, 1)):
                torch.set_num_threads(threads)
                for size in (shape, (4, *shape[1:]), (2, 64, 28, 28)):
                    if len(size) != len(shape):
                        continue
                    x = torch.randn(size).contiguous(memory_format=last)
                    # So many calls settle on a layout for the size and the team.
                    for _ in range(10):
                        layer(x)
                    say(f"{turn} {name} {threads} {'x'.join(map(str, size))}")
                    layer(x)
                    say("end")


if __name__ == "__main__":
    main()
