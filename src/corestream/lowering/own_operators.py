"""The scope to trace or export a model in, so that it calls corestream's operators."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import nn

from corestream.lowering.attention import AttentionScout, OwnAttention
from corestream.lowering.channel_shuffle import OwnChannelShuffle
from corestream.lowering.products import OwnProducts, ProductScout
from corestream.measure.inputs import ModelInputs


def own_operators(model: nn.Module, inputs: ModelInputs, *, team_size: int) -> ExitStack:
    """A scope in which calls of torch go to our operators where these are faster.

    Runs the model once, and measures the shapes of attention and products that it has. A model
    that gains nothing is left alone: a mode keeps modules from torch's fast paths.

    Args:
        model: In eval mode.
        inputs: What it will be traced with.
        team_size: Threads that the operators are timed with.
    """
    attention, products, shuffles = AttentionScout(), ProductScout(), OwnChannelShuffle()
    with torch.no_grad(), attention, products, shuffles:
        inputs.call(model)
    # Outside of all modes, which take time of the calls that they see.
    is_our_attention = attention.decide(team_size=team_size)
    is_our_product = products.decide(team_size=team_size)
    scope = ExitStack()
    if any(is_our_attention.values()):
        scope.enter_context(OwnAttention(is_our_attention))
    if any(is_our_product.values()):
        scope.enter_context(OwnProducts(is_our_product))
    if shuffles.num_found:
        scope.enter_context(OwnChannelShuffle())
    return scope
