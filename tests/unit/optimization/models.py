"""Small models, each with something that optimizers have tripped over."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def trained(model: nn.Module) -> nn.Module:
    """In evaluation mode, with batch norms that do something."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            for name, low in (("running_mean", -0.5), ("running_var", 0.5)):
                tensor = getattr(module, name)
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


class Net(nn.Module):
    """Convolution, batch norm, dropout, linear: something for every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding="same", bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)
        self.hidden = nn.Linear(8, 16)
        self.hidden_norm = nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 4)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden_norm(self.hidden(self.drop(self.features(x))))
        out: Tensor = self.head(torch.relu(hidden))
        return out


class Attention(nn.Module):
    """Three linear layers that read one tensor, in code that cannot be traced."""

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:  # depends on a value
            return x
        q, k, v = self.query(x), self.key(x), self.value(x)
        return nn.functional.scaled_dot_product_attention(q, k, v)


class Taps(nn.Module):
    """Convolutions whose results are read, or kept, beside the batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.kept, self.twice, self.fine = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(4))
        self.last: Any = None

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if x.sum() > 1e9:
            return {}
        y = self.read(x)
        z = self.norms[0](y) + y
        self.last = self.kept(x)
        z = z + self.norms[1](self.last)
        z = z + self.norms[2](self.twice(x)) + self.twice(x)
        return {"out": z + self.norms[3](self.fine(x))}
