"""Networks whose pictures lie as ``(N, H, W, C)`` until a Transpose that is not the first node."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

from edgec.pipeline.network.nodes import attributes_of

KEEP_LAYOUT = ("Identity", "Cast", "Pad", "Add", "Sub", "Mul", "Div", "Clip", "Relu", "Concat", "Slice", "Resize")
"""Nodes behind which pictures lie as they lay before."""


def is_turned_later(model: onnx.ModelProto, name: str) -> bool:
    """Whether the tensor is padded, computed with or read twice before it becomes ``(N, C, H, W)``."""
    moved = {name}
    for node in model.graph.node:
        if moved.intersection(node.input):
            if node.op_type == "Transpose":
                return list(attributes_of(node).get("perm", ())) == [0, 3, 1, 2]
            if node.op_type in KEEP_LAYOUT:
                moved.update(node.output)
    return False


def turned_at(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The same network with a Transpose to ``(N, C, H, W)`` and one back behind a tensor."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    planes, pixels = f"{name}/planes", f"{name}/pixels"
    for node in changed.graph.node:
        node.input[:] = [pixels if given == name else given for given in node.input]
    there = helper.make_node("Transpose", [name], [planes], f"{name}/to_planes", perm=[0, 3, 1, 2])
    back = helper.make_node("Transpose", [planes], [pixels], f"{name}/to_pixels", perm=[0, 2, 3, 1])
    nodes: Sequence[onnx.NodeProto] = list(changed.graph.node)
    place = next((at + 1 for at, node in enumerate(nodes) if name in node.output), 0)
    del changed.graph.node[:]
    changed.graph.node.extend([*nodes[:place], there, back, *nodes[place:]])
    return changed
