"""Layers of LSTMs, all steps in one region of a team."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from corestream import _native
from corestream.ops.linear import pack_linear

_native.torch_ext  # noqa: B018 (registers the operator: models that call it can be loaded)

_GATES = 4
# Units whose gates the kernel finds next to each other.
_BLOCK = 16


@dataclass(frozen=True)
class LSTMWeights:
    """A layer's parameters in the order in which the kernel reads them.

    Attributes:
        packed_input: Weights of the input.
        packed_hidden: Weights of the step before.
        bias: float32, the sum of torch's two; None for none.
    """

    packed_input: Tensor
    packed_hidden: Tensor
    bias: Tensor | None

    @classmethod
    def of(
        cls,
        weight_ih: Tensor,
        weight_hh: Tensor,
        *,
        bias_ih: Tensor | None = None,
        bias_hh: Tensor | None = None,
    ) -> Self:
        """Packs the parameters of a layer and direction, as ``torch.nn.LSTM`` has them.

        Args:
            weight_ih: (4 * hidden, features), float32 or bfloat16.
            weight_hh: (4 * hidden, hidden), of the same dtype.
            bias_ih: (4 * hidden), or None.
            bias_hh: The same.

        Returns:
            What :func:`lstm_layer` takes.

        Raises:
            ValueError: The sizes are not those of one layer without a projection.

        Example:
            >>> from torch import nn
            >>> layer = nn.LSTM(8, 20)
            >>> LSTMWeights.of(layer.weight_ih_l0, layer.weight_hh_l0).packed_hidden.numel()
            2560

        Thread-safe; releases the GIL for the copies.
        """
        hidden = weight_hh.shape[-1]
        sizes = [tuple(weight.shape[:-1]) for weight in (weight_ih, weight_hh)]
        if weight_hh.dim() != 2 or sizes != [(_GATES * hidden,)] * 2 or hidden == 0:
            raise ValueError(
                "weights must be (4 * hidden, features) and (4 * hidden, hidden); got "
                f"{tuple(weight_ih.shape)} and {tuple(weight_hh.shape)}; projections are torch's"
            )
        for bias in (bias_ih, bias_hh):
            if bias is not None and bias.shape != (_GATES * hidden,):
                raise ValueError(
                    f"biases must be (4 * hidden,) = ({_GATES * hidden},); got "
                    f"{tuple(bias.shape)}; pass those of the same layer"
                )
        given = [bias.detach().float() for bias in (bias_ih, bias_hh) if bias is not None]
        bias = _in_blocks(torch.stack(given).sum(0)[:, None]).flatten() if given else None
        packed_input, packed_hidden = (
            pack_linear(_in_blocks(weight.detach())) for weight in (weight_ih, weight_hh)
        )
        return cls(packed_input, packed_hidden, bias)


def _in_blocks(rows: Tensor) -> Tensor:
    """Rows by gates, then units, to blocks of units, then gates; missing units are zero."""
    gates = rows.reshape(_GATES, -1, rows.shape[-1])
    padded = nn.functional.pad(gates, (0, 0, 0, -gates.shape[1] % _BLOCK))
    blocks = padded.reshape(_GATES, -1, _BLOCK, rows.shape[-1]).transpose(0, 1)
    return blocks.reshape(-1, rows.shape[-1])


def lstm_layer(
    input: Tensor,  # noqa: A002 (as torch has it)
    weights: LSTMWeights,
    *,
    h0: Tensor,
    c0: Tensor,
    batch_first: bool = False,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer of ``torch.nn.LSTM`` in one direction, for inference.

    Each thread of the team keeps to its units, whose four gates it computes and at once applies:
    threads meet once in a step, in one parallel region for all steps. The products with the input
    are computed before, of all steps at once. What there is no kernel for, and what needs a
    gradient, torch computes, from weights that are unpacked in every call.

    Args:
        input: (steps, batch, features), float32 or bfloat16.
        weights: What :meth:`LSTMWeights.of` made.
        h0: (batch, hidden), of the input's dtype.
        c0: The same.
        batch_first: Whether the input and the output are (batch, steps, ...).
        reverse: Whether the last step is computed first.

    Returns:
        The output of all steps, (steps, batch, hidden), that of the step computed last, and the
        state after it, (batch, hidden), of the input's dtype.

    Raises:
        RuntimeError: The sizes or dtypes do not fit.

    Example:
        >>> import torch
        >>> layer, x, zeros = torch.nn.LSTM(8, 20), torch.randn(5, 3, 8), torch.zeros(3, 20)
        >>> weights = LSTMWeights.of(layer.weight_ih_l0, layer.weight_hh_l0,
        ...                          bias_ih=layer.bias_ih_l0, bias_hh=layer.bias_hh_l0)
        >>> output, last, state = lstm_layer(x, weights, h0=zeros, c0=zeros)
        >>> torch.allclose(output, layer(x)[0], atol=1e-5)
        True

    Source: Hochreiter and Schmidhuber, Long Short-Term Memory (1997), with the forget gate of
    Gers et al. (2000).

    Thread-safe; runs on the calling thread's OpenMP team and releases the GIL.
    """
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.corestream.lstm_layer(
        input,
        weights.packed_input,
        weights.packed_hidden,
        weights.bias,
        h0,
        c0,
        batch_first,
        reverse,
    )
    return result
