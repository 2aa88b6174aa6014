"""The operators of an ONNX file as ``Step``s, float or with Q/DQ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

from edgec.pipeline.network.cost import layer_macs, not_counted, one_image, weight_place
from edgec.pipeline.network.layers import Step, Window

if TYPE_CHECKING:
    import onnx

    from edgec.pipeline.network.graph import Graph, Node

QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
MEANS = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")


def onnx_steps(model: onnx.ModelProto) -> tuple[Step, ...]:
    """The operators of one image in the order of the file.

    Raises:
        EdgecError: ``no-count`` where sizes are unknown, or an operator multiplies in a way that is not counted.
    """
    reader = _Reader(one_image(model))
    return tuple(reader.step(node) for node in reader.graph.nodes if node.outputs[0] not in reader.stored)


@dataclass(frozen=True)
class _Reader:
    graph: Graph

    @cached_property
    def stored(self) -> Mapping[str, str]:
        """Constants, and what Q and DQ make of them, with the constant that each comes from."""
        found = {name: name for name in self.graph.constants}
        for node in self.graph.nodes:
            if node.op in QUANTIZING and node.inputs[0] in found:
                found[node.output] = found[node.inputs[0]]
        return found

    def shape(self, node: Node, name: str) -> tuple[int, ...]:
        shape = self.graph.shapes.get(name)
        if shape is None or not all(shape):
            raise not_counted(node, "give the input fixed sizes")
        return tuple(side or 1 for side in shape)

    def step(self, node: Node) -> Step:
        read = tuple(name for name in node.inputs if name and name not in self.stored)
        first, after = self.shape(node, (read or node.inputs)[0]), self.shape(node, node.output)
        macs = layer_macs(node.op, node.inputs, node.output, self.graph.shapes)
        if macs is None:
            raise not_counted(node, "no layer can be explained behind it")
        weight: tuple[int, ...] = ()
        params = 0
        if macs:
            weight = self.shape(node, node.inputs[weight_place(node.op)])
            constants = {self.stored[name] for name in node.inputs if name in self.stored}
            params = sum(self.graph.constants[name].size for name in constants if self.graph.constants[name].ndim)
        return Step(
            node.name.removeprefix("/"),
            read,
            node.output,
            first,
            after,
            weight,
            macs,
            params,
            int(node.attributes.get("group", 1)),
            self.window(node, weight, first, after),
            node.op in MEANS and prod(after[2:]) == 1,
        )

    def window(self, node: Node, weight: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]) -> Window:
        if len(before) != 4 or len(after) != 4:
            return Window()
        if node.op == "Resize":
            corners = node.attributes.get("coordinate_transformation_mode") == "align_corners"
            return Window.resizing(before[2:], after[2:], node.attributes.get("mode", "nearest") != "nearest", corners)
        kernel = weight[2:] if "Conv" in node.op else node.attributes.get("kernel_shape")
        if not kernel or len(kernel) != 2:
            return Window()
        stride, dilation = (tuple(node.attributes.get(name, (1, 1))) for name in ("strides", "dilations"))
        window = Window((kernel[0], kernel[1]), (stride[0], stride[1]), (dilation[0], dilation[1]))
        return window.backwards if node.op == "ConvTranspose" else window
