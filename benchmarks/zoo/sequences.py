"""Encoders of text, an LSTM and a recommender."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.models import Encoder, SentenceEncoder, minilm_folder

# The recommender of Naumov et al. 2019, "Deep Learning Recommendation Model for Personalization
# and Recommendation Systems", at the size of its small public configurations.
DENSE_FEATURES = 13
TABLES = 26
ROWS = 20_000
WIDTH = 64
BOTTOM = (DENSE_FEATURES, 512, 256, WIDTH)
TOP = (WIDTH + (TABLES + 1) * TABLES // 2, 512, 256, 1)

LSTM_INPUT = 256
LSTM_HIDDEN = 512
LSTM_LAYERS = 2


def _quiet_transformers() -> Any:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def bert_base() -> nn.Module:
    transformers = _quiet_transformers()
    return Encoder(transformers.BertModel(transformers.BertConfig(), add_pooling_layer=False))


def distilbert() -> nn.Module:
    transformers = _quiet_transformers()
    return Encoder(transformers.DistilBertModel(transformers.DistilBertConfig()))


def minilm() -> nn.Module:
    transformers = _quiet_transformers()
    return SentenceEncoder(
        transformers.BertModel.from_pretrained(
            str(minilm_folder()), add_pooling_layer=False, dtype=torch.float32
        )
    )


class Recommender(nn.Module):
    """Embeddings of the categories and an MLP of the numbers; pairwise products; an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(ROWS, WIDTH) for _ in range(TABLES))
        self.bottom = _mlp(BOTTOM)
        self.top = _mlp(TOP)
        pairs = torch.tril_indices(TABLES + 1, TABLES + 1, offset=-1)
        self.register_buffer("pairs", pairs[0] * (TABLES + 1) + pairs[1])

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        dense = self.bottom(numbers)
        embedded = [table(categories[:, column]) for column, table in enumerate(self.tables)]
        features = torch.stack([dense, *embedded], dim=1)
        products = torch.bmm(features, features.transpose(1, 2)).flatten(1)
        interactions = products.index_select(1, self.pairs)
        out: Tensor = self.top(torch.cat([dense, interactions], dim=1))
        return out


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class LSTM(nn.Module):
    """torch's LSTM; its answer is the output at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(LSTM_INPUT, LSTM_HIDDEN, LSTM_LAYERS, batch_first=True)

    def forward(self, steps: Tensor) -> Tensor:
        out: Tensor = self.lstm(steps)[0]
        return out


def lstm_flops(steps: int) -> float:
    """Of one sequence; torch's counter does not know the operator."""
    first = 8 * LSTM_HIDDEN * (LSTM_INPUT + LSTM_HIDDEN)
    others = 8 * LSTM_HIDDEN * (2 * LSTM_HIDDEN) * (LSTM_LAYERS - 1)
    return float(steps * (first + others))
