"""Small models of the kinds that users lower, and of the kinds that resist."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TinyCNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 5)
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(image))).mean((2, 3)))


class Named(nn.Module):
    """Keyword arguments, a dict of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: Tensor | None = None):
        y = self.linear(x)
        if mask is not None:
            y = y * mask[:, None]
        return {"y": y if scale is None else y * scale, "positive": y > 0}


class LastState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        states, _ = self.lstm(x)
        return states[:, -1], (states.amax(1), states)


class Branch(nn.Module):
    """What it does depends on the data: a trace takes one way for ever."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x - 1


class BatchConstant(nn.Module):
    """A trace takes the batch size for a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(len(x))[:, None]


class Mixed(nn.Module):
    """Outputs that are no tensors."""

    def forward(self, x: Tensor):
        return {"y": x * 2, "names": ("a", 3)}


def tiny_bert(*, return_dict: bool = False) -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        vocab_size=50,
        return_dict=return_dict,
    )
    return BertModel(config, add_pooling_layer=False).eval()


def images(batch: int) -> Tensor:
    return torch.randn(batch, 3, 10, 10)
