"""The scope to trace or export a model in, so that it calls corestream's operators."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import nn

from corestream.lowering.attention import AttentionScout, OwnAttention
from corestream.lowering.channel_shuffle import OwnChannelShuffle
from corestream.lowering.products import OwnProducts, ProductScout
from corestream.measure.inputs import ModelInputs


def own_operators(model: nn.Module, inputs: ModelInputs) -> ExitStack:
    """A scope in which calls of torch go to our operators where these are faster.

    Runs the model once, and measures the shapes of attention and products that it has. A model
    that gains nothing is left alone: a mode keeps modules from torch's fast paths.

    Args:
        model: In eval mode.
        inputs: What it will be traced with.
    """
    attention, products, shuffles = AttentionScout(), ProductScout(), OwnChannelShuffle()
    with torch.no_grad(), attention, products, shuffles:
        inputs.call(model)
    scope = ExitStack()
    is_ours = attention.decide()
    if any(is_ours.values()):
        scope.enter_context(OwnAttention(is_ours))
    is_our_product = products.decide()
    if any(is_our_product.values()):
        scope.enter_context(OwnProducts(is_our_product))
    if shuffles.num_found:
        scope.enter_context(OwnChannelShuffle())
    return scope
