"""What follows our linear layers in an exported graph, as a part of them."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

_GELU, _LOW, _HIGH = 5, 6, 7  # of the operator's arguments


def fuse_after_linear(module: GraphModule) -> int:
    """Takes GELU and ReLU into the calls of ``corestream.linear`` before them, and counts them.

    Only if nobody else reads what comes before: it would have to be computed as well.

    Args:
        module: The graph of an exported program, which is changed.
    """
    fused = 0
    for node in list(module.graph.nodes):
        if node.target is torch.ops.corestream.linear.default and len(node.users) == 1:
            fused += _fuse(node, next(iter(node.users)))
    if fused:
        module.graph.lint()
        module.recompile()
    return fused


def _fuse(linear: Node, after: Node) -> bool:
    args: list[Any] = list(linear.args)
    aten = torch.ops.aten
    # The names of outputs are part of a program's signature.
    is_output = any(user.op == "output" for user in after.users)
    is_limited = args[_LOW] is not None or args[_HIGH] is not None
    if after.args[:1] != (linear,) or is_output or is_limited:
        return False
    is_exact = after.kwargs.get("approximate", "none") == "none" and len(after.args) == 1
    if after.target is aten.gelu.default and is_exact and not args[_GELU]:
        args[_GELU] = True
    elif after.target in (aten.relu.default, aten.relu_.default):
        args[_LOW] = 0.0
    else:
        return False
    linear.args = tuple(args)
    after.replace_all_uses_with(linear)
    linear.graph.erase_node(after)
    return True
