"""Operators that PyTorch lacks, or has no fast kernel of."""

from __future__ import annotations

from corestream.ops.attention import attention, has_attention_kernel
from corestream.ops.chain import convolution_chain
from corestream.ops.channels import interleave_channels
from corestream.ops.convolution import (
    ConvolutionShape,
    PackedConvolution,
    convolution,
    has_convolution_kernel,
    pack_convolution,
)
from corestream.ops.embedding import EmbeddingPart, joined_embeddings
from corestream.ops.joining import JoinedPart, joined_convolutions
from corestream.ops.kernels import has_kernels
from corestream.ops.linear import linear, pack_linear
from corestream.ops.lstm import LSTMWeights, lstm_layer
from corestream.ops.pooling import adaptive_avg_pool, avg_pool, max_pool
from corestream.ops.product import multiply_transposed
from corestream.ops.winograd import has_winograd_kernel, pack_winograd

__all__ = [
    "ConvolutionShape",
    "EmbeddingPart",
    "JoinedPart",
    "LSTMWeights",
    "PackedConvolution",
    "adaptive_avg_pool",
    "attention",
    "avg_pool",
    "convolution",
    "convolution_chain",
    "has_attention_kernel",
    "has_convolution_kernel",
    "has_kernels",
    "has_winograd_kernel",
    "interleave_channels",
    "joined_convolutions",
    "joined_embeddings",
    "linear",
    "lstm_layer",
    "max_pool",
    "multiply_transposed",
    "pack_convolution",
    "pack_linear",
    "pack_winograd",
]
