"""Sizes of tensors that are looked at while a graph is made of them."""

from __future__ import annotations

from typing import Any

import torch


class not_traced:  # noqa: N801 (read as a statement: with not_traced())
    """Sizes that are looked at within it are numbers, not parts of the traced graph."""

    def __enter__(self) -> None:
        tracer: Any = torch._C
        self._state = tracer._get_tracing_state()
        tracer._set_tracing_state(None)

    def __exit__(self, *_: object) -> None:
        tracer: Any = torch._C
        tracer._set_tracing_state(self._state)


def are_equal(left: Any, right: Any) -> bool:
    """Of two sizes, for any batch if they are open; asking makes none of them a constant."""
    if isinstance(left, int) and isinstance(right, int):
        return left == right
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(left == right)
