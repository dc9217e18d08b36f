"""Puts convolution weights into oneDNN's blocked layout although the batch size is open.

Inductor prepacks convolutions only where it knows all input sizes; with an open batch, weights are
reordered in every call. Most blocked layouts do not depend on the batch, and those are packed here.
The others stay plain: MobileNetV2, all packed for 4 images, took three times as much CPU time for
one, because reorders from one blocked layout to another take oneDNN's slow general path.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.fx.experimental.symbolic_shapes import has_free_symbols, optimization_hint


class PrepackConvolutions(CustomGraphPass):
    """A pass over Inductor's frozen graph, before it fuses what follows a convolution."""

    def __init__(self, batch_size: int | None) -> None:
        """Packs for `batch_size`, where the batch is open."""
        self._batch_size = batch_size

    def __call__(self, graph: torch.fx.Graph) -> None:
        """Replaces plain weights of oneDNN's convolutions by packed ones."""
        for node in graph.nodes:
            if node.target is torch.ops.mkldnn._convolution_pointwise.default:
                self._pack(graph, node)

    def uuid(self) -> str:
        """What Inductor's own caches know the pass by."""
        return f"corestream-prepack-convolutions-1-{self._batch_size}"

    def _pack(self, graph: torch.fx.Graph, node: torch.fx.Node) -> None:
        source, weight, _, padding, stride, dilation, groups, *_ = node.args
        if not isinstance(source, torch.fx.Node) or not isinstance(weight, torch.fx.Node):
            return
        owner: Any = graph.owning_module
        # What freezing left as it was keeps its name in the model, which has dots.
        plain = attrgetter(str(weight.target))(owner) if weight.op == "get_attr" else None
        if plain is None or plain.is_mkldnn:
            return
        reorder: Any = torch.ops.mkldnn._reorder_convolution_weight
        variants = [
            reorder(plain, padding, stride, dilation, groups, sizes)
            for sizes in self._sizes(source.meta["val"])
        ]
        if len({_layout(variant) for variant in variants}) > 1:
            return
        packed = variants[0]
        name = f"_corestream_packed_{node.name}"
        owner.register_buffer(name, packed)
        with graph.inserting_before(node):
            constant = graph.get_attr(name)
        constant.meta.update({**weight.meta, "val": packed})
        node.replace_input_with(weight, constant)
        if not weight.users:
            graph.erase_node(weight)

    def _sizes(self, value: torch.Tensor) -> list[list[int]]:
        """The input's sizes, for several batches where that is open."""
        batch, *others = (optimization_hint(size) for size in value.shape)
        if not has_free_symbols(value.shape[0]):
            return [[batch, *others]]
        tuned = self._batch_size or batch
        return [[size, *others] for size in sorted({1, 2, tuned, 4 * tuned})]


def _layout(packed: torch.Tensor) -> bytes:
    describe: Any = torch.ops.mkldnn._get_mkldnn_serialized_md
    return bytes(describe(packed).tolist())
