"""Real architectures, small and with random weights: same results, same state, no warning."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from benchmarks.cnn import Bottleneck, InvertedResidual
from corestream.measure import ModelInputs, Timing, compare
from corestream.optimization import optimize, trial
from tests.unit.optimization.models import trained

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
TOKENS = {"vocab_size": 99, "max_position_embeddings": 40}


def tokens(length: int = 12) -> dict[str, torch.Tensor]:
    ids = torch.arange(2 * length).view(2, length) % 90 + 3
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def images(size: int = 32, channels: int = 3) -> torch.Tensor:
    count = 2 * channels * size * size
    return torch.linspace(-1, 1, count).sin().view(2, channels, size, size)


def text(name: str, **options: Any) -> Callable[[], tuple[nn.Module, Any]]:
    def build() -> tuple[nn.Module, Any]:
        config = getattr(transformers, f"{name}Config")(**{**SIZES, **TOKENS, **options})
        return getattr(transformers, f"{name}Model")(config), tokens()

    return build


def vision(name: str, **options: Any) -> Callable[[], tuple[nn.Module, Any]]:
    def build() -> tuple[nn.Module, Any]:
        config = getattr(transformers, f"{name}Config")(image_size=32, **options)
        return getattr(transformers, f"{name}Model")(config), images()

    return build


class Inception(nn.Module):
    """Branches of convolutions over one input, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 4, k, padding=k // 2), nn.BatchNorm2d(4), nn.ReLU())
            for k in (1, 3, 5)
        )
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        found = [branch(x) for branch in self.branches]
        return self.head(torch.cat(found, 1).mean((2, 3))), found


class Shuffle(nn.Module):
    """ShuffleNet's unit: half of the channels, a depthwise convolution, a shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.path = nn.Sequential(
            nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1, groups=4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.stem(x).chunk(2, dim=1)
        joined = torch.stack([a, self.path(b)], dim=1)
        return joined.transpose(1, 2).flatten(1, 2)


class Dense(nn.Module):
    """DenseNet: batch norms come first, so that none follows a convolution alone."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(3 + 4 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(3 + 4 * i, 4, 3, padding=1) for i in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(torch.relu(norm(x)))], 1)
        return x


class UNet(nn.Module):
    """Down, up by a transposed convolution, and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU())
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 6, 2, 2), nn.BatchNorm2d(6), nn.GELU())

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"mask": torch.cat([self.up(self.down(x)), x], 1)}


class Recommender(nn.Module):
    """DLRM: bags of embeddings beside a perceptron, and their products."""

    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(20, 8, mode="sum") for _ in range(3))
        self.dense = nn.Sequential(
            nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8)
        )
        self.top = nn.Linear(24, 1)

    def forward(self, dense: torch.Tensor, sparse: torch.Tensor) -> torch.Tensor:
        x = self.dense(dense)
        parts = [bag(ids) * x for bag, ids in zip(self.bags, sparse, strict=True)]
        return self.top(torch.cat(parts, 1)).sigmoid()


class Recurrent(nn.Module):
    """An LSTM, which torch runs through oneDNN by itself, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, num_layers=2, batch_first=True, dropout=0.1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        out, state = self.lstm(x)
        return self.head(out), state


def cnn(*layers: nn.Module) -> Callable[[], tuple[nn.Module, Any]]:
    return lambda: (nn.Sequential(*layers), images())


MODELS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "ResNet-50 blocks": cnn(
        nn.Conv2d(3, 8, 7, 2, 3), Bottleneck(8, 4, stride=1), Bottleneck(16, 4, stride=2)
    ),
    "MobileNetV2 blocks": cnn(
        InvertedResidual(3, 8, expansion=1, stride=2), InvertedResidual(8, 8, expansion=6, stride=1)
    ),
    "VGG": cnn(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(512, 16),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(16, 5),
    ),
    "Inception": lambda: (Inception(), images()),
    "ShuffleNet": lambda: (Shuffle(), images()),
    "DenseNet": lambda: (Dense(), images(8)),
    "U-Net": lambda: (UNet(), images()),
    "DLRM": lambda: (Recommender(), (torch.ones(4, 5), torch.arange(36).view(3, 4, 3) % 20)),
    "LSTM": lambda: (Recurrent(), torch.ones(2, 5, 8)),
    "torch's Transformer": lambda: (
        nn.Transformer(16, 2, 1, 1, 32, batch_first=True),
        (torch.ones(2, 5, 16), torch.ones(2, 4, 16)),
    ),
    "1d": lambda: (
        nn.Sequential(nn.Conv1d(3, 8, 5, 2), nn.BatchNorm1d(8), nn.ReLU()),
        torch.ones(2, 3, 30),
    ),
    "3d": lambda: (
        nn.Sequential(nn.Conv3d(3, 8, 3, padding="same"), nn.BatchNorm3d(8)),
        torch.ones(1, 3, 6, 7, 8),
    ),
    "BERT": text("Bert"),
    "RoBERTa": text("Roberta"),
    "ALBERT": text("Albert", embedding_size=16),
    "ELECTRA": text("Electra", embedding_size=16),
    "MPNet": text("MPNet"),
    "DistilBERT": lambda: (
        transformers.DistilBertModel(
            transformers.DistilBertConfig(
                dim=32, n_layers=2, n_heads=4, hidden_dim=64, vocab_size=99
            )
        ),
        tokens(),
    ),
    "GPT-2": lambda: (
        transformers.GPT2LMHeadModel(
            transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=99)
        ),
        tokens(),
    ),
    "Llama": lambda: (
        transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**SIZES, **TOKENS, num_key_value_heads=2)
        ),
        tokens(),
    ),
    "OPT": lambda: (
        transformers.OPTForCausalLM(
            transformers.OPTConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                ffn_dim=64,
                word_embed_proj_dim=32,
                **TOKENS,
            )
        ),
        tokens(),
    ),
    "T5": lambda: (
        transformers.T5EncoderModel(
            transformers.T5Config(
                d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=99
            )
        ),
        tokens(),
    ),
    "ViT": vision("ViT", patch_size=8, **SIZES),
    "DeiT": vision("DeiT", patch_size=8, **SIZES),
    "ResNet of transformers": lambda: (
        transformers.ResNetModel(
            transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
        ),
        images(),
    ),
    "ConvNeXt": lambda: (
        transformers.ConvNextModel(
            transformers.ConvNextConfig(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1])
        ),
        images(64),
    ),
    "RegNet": lambda: (
        transformers.RegNetModel(
            transformers.RegNetConfig(
                embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=4
            )
        ),
        images(),
    ),
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch) -> Iterator[None]:
    """One thread, and passes that neither gain nor lose."""

    def compare_times(calls: Any, **_: Any) -> dict[str, Timing]:
        return {name: Timing((1.0,) * 3) for name in calls}

    monkeypatch.setattr(trial, "compare_times", compare_times)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def run(model: nn.Module, inputs: Any) -> Any:
    with torch.no_grad():
        return ModelInputs.of(inputs).call(model)


def assert_same(actual: Any, expected: Any) -> None:
    found = compare(actual, expected, dtype=torch.float32)
    assert found.is_within, found.reason


@pytest.mark.parametrize("name", MODELS)
def test_results_and_state_are_those_of_the_model(name):
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    model = trained(model)
    expected, state = run(model, inputs), copy.deepcopy(model.state_dict())
    for options in ({}, {"example_inputs": inputs}):
        fast = optimize(model, **options)
        assert_same(run(fast, inputs), expected)
        found = fast.state_dict()
        assert list(found) == list(state)
        assert all(v.dtype == state[k].dtype and v.equal(state[k]) for k, v in found.items())
    assert all(value.equal(state[key]) for key, value in model.state_dict().items())
    assert sum(len(entry.done) for entry in fast.report.passes) > 0
    assert not any(
        entry.rolled_back for entry in fast.report.passes if entry.name != "concat_linear"
    )
    twin = pickle.loads(pickle.dumps(copy.deepcopy(fast)))
    assert_same(run(twin, inputs), expected)


@pytest.mark.parametrize("name", ["ResNet-50 blocks", "U-Net", "BERT", "GPT-2", "ViT", "LSTM"])
@pytest.mark.filterwarnings("ignore::corestream.errors.CorestreamWarning")
def test_bfloat16_answers_in_the_models_own_dtypes(name, monkeypatch):
    monkeypatch.setattr("corestream.optimization.products.product_speedup", lambda *_: 2.0)
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    model = trained(model)
    fast = optimize(model, torch.bfloat16, example_inputs=inputs)
    assert fast.report["dtype"].rolled_back is None
    found = compare(run(fast, inputs), run(model, inputs), dtype=torch.bfloat16)
    assert found.is_within, found.reason
    state = model.state_dict()
    assert all(value.equal(state[key]) for key, value in fast.state_dict().items())
