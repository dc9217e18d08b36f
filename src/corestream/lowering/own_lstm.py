"""LSTMs by corestream's kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from corestream.lowering.own_calls import Call
from corestream.lowering.sizes import not_traced
from corestream.ops.kernels import has_kernels
from corestream.ops.lstm import LSTMWeights, lstm_layer


def may_have_lstm(model: nn.Module) -> bool:
    """Whether the model has a layer that may be ours."""
    layers = [module for module in model.modules() if isinstance(module, nn.LSTM)]
    return any(layer.proj_size == 0 and has_kernels(torch.float32) for layer in layers)


@dataclass(frozen=True)
class LSTMCall(Call):
    """All layers and directions of an LSTM.

    Attributes:
        input: (steps, batch, features), or the batch first.
        state: The first output and state: (layers * directions, batch, hidden) each.
        layers: The parameters of each layer and direction, as torch has them.
        num_directions: 2 if it is also run backwards.
        batch_first: Whether sequences come before their steps.
    """

    input: Tensor
    state: tuple[Tensor, Tensor]
    layers: tuple[tuple[Tensor, ...], ...]
    num_directions: int
    batch_first: bool

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Self | None:
        """Of the arguments that ``torch.nn.LSTM`` calls torch with; None where it is not ours."""
        # Of packed sequences there are as many arguments, but the second is a tensor.
        if kwargs or len(args) != 9 or isinstance(args[1], Tensor):
            return None
        x, state, parameters, has_bias, num_layers, dropout, train, is_both, batch_first = args
        count = num_layers * (2 if is_both else 1)
        each = 4 if has_bias else 2
        if (train and dropout > 0) or len(parameters) != count * each or not has_kernels(x.dtype):
            return None
        if any(tensor.dtype != x.dtype for tensor in (*parameters, *state)):
            return None
        layers = tuple(tuple(parameters[at : at + each]) for at in range(0, count * each, each))
        return cls(x, tuple(state), layers, 2 if is_both else 1, batch_first)

    def sources(self) -> list[Tensor]:
        """As :meth:`Call.sources`."""
        return [self.input, *self.state]

    def run(self) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`Call.run`: the output, and each layer's last one and state."""
        out, last, states = self.input, [], []
        for first in range(0, len(self.layers), self.num_directions):
            results = [self._layer(out, first + i, is_back=i > 0) for i in self._directions]
            outputs = [result[0] for result in results]
            out = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            last += [result[1] for result in results]
            states += [result[2] for result in results]
        return out, torch.stack(last), torch.stack(states)

    @property
    def _directions(self) -> range:
        return range(self.num_directions)

    def _layer(self, x: Tensor, index: int, *, is_back: bool) -> tuple[Tensor, Tensor, Tensor]:
        with not_traced():
            biases = zip(("bias_ih", "bias_hh"), self.layers[index][2:], strict=False)
            weights = LSTMWeights.of(*self.layers[index][:2], **dict(biases))
        h0, c0 = (part.select(0, index) for part in self.state)
        return lstm_layer(x, weights, h0=h0, c0=c0, batch_first=self.batch_first, reverse=is_back)
