"""What a network costs before anything is compiled: multiply-accumulates and parameters, counted one way everywhere.

Convolutions and matrix products count, as in the papers; activations, pooling and additions do not. Every format's
reader takes ``macs``; ONNX graphs are counted by ``layer_macs`` and ``network_cost``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from edgec.pipeline.core.errors import EdgecError

if TYPE_CHECKING:
    import onnx

    from edgec.pipeline.network.graph import Graph, Node

Shape = Sequence[int | None]

_WEIGHT = {
    "Conv": 1,
    "ConvInteger": 1,
    "QLinearConv": 3,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
    "MatMulInteger": 1,
    "QLinearMatMul": 3,
}
"""Operators that multiply and accumulate, with the position of the weight, or right factor, among their inputs."""
_UNCOUNTED = frozenset({"Einsum", "RNN", "GRU", "LSTM", "DeformConv", "Attention", "If", "Loop", "Scan"})
"""Operators that multiply or hold graphs that may, and whose count needs more than shapes: better none than zero."""


@dataclass(frozen=True)
class NetworkCost:
    """Of one image.

    Attributes:
        macs: multiply-accumulates of convolutions and matrix products.
        params: elements of all constants but scales and zero points.
    """

    macs: int
    params: int


def macs(weight: Shape, positions: Shape) -> int:
    """Every weight meets every position once, whatever the layout, the groups and the strides.

    Args:
        weight: the layer's whole weight; of a batched matrix product the last two axes of the right factor.
        positions: batch and pixels where the weight is applied: those of the output; of a transposed convolution those
            of the input; of a product all axes of the output but the last. A side that is not known counts as one.
    """
    return prod(side or 1 for side in (*weight, *positions))


def layer_macs(op: str, inputs: Sequence[str], output: str, shapes: Mapping[str, Shape]) -> int | None:
    """Of one ONNX operator; 0 where it multiplies nothing, None where ``shapes`` lacks one of its tensors.

    None as well for the operators of ``_UNCOUNTED``.
    """
    if op not in _WEIGHT:
        return None if op in _UNCOUNTED else 0
    image, weight, result = (shapes.get(name) for name in (inputs[0], inputs[_WEIGHT[op]], output))
    if image is None or weight is None or result is None:
        return None
    if op == "ConvTranspose":
        return macs(weight, (image[0], *image[2:]))
    if "Conv" in op:
        return macs(weight, (result[0], *result[2:]))
    return macs(weight[-2:], result if len(weight) == 1 else result[:-1])


def weight_place(op: str) -> int:
    """Where the weight stands among the inputs of an operator that multiplies."""
    return _WEIGHT[op]


def network_cost(model: onnx.ModelProto) -> NetworkCost:
    """Count a float or QDQ network for one image: a symbolic batch is one.

    Raises:
        EdgecError: ``no-count`` where a convolution's or product's shapes cannot be inferred, or an operator such as
            LSTM multiplies in a way that is not counted.
    """
    graph = one_image(model)
    total = 0
    for node in graph.nodes:
        counted = layer_macs(node.op, node.inputs, node.output, graph.shapes)
        if counted is None or (counted and not _fixed(node, graph)):
            raise not_counted(node, "give the input fixed sizes, or delete the limit")
        total += counted
    return NetworkCost(total, sum(graph.constants[name].size for name in _parameters(graph)))


def one_image(model: onnx.ModelProto) -> Graph:
    """The graph of ``model`` for one image: a symbolic batch is one."""
    import onnx

    from edgec.pipeline.network.graph import Graph

    single = onnx.ModelProto()
    single.CopyFrom(model)
    for value in single.graph.input:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = value.type.tensor_type.shape.dim[0].dim_value or 1
    return Graph.read(single)


def not_counted(node: Node, hint: str) -> EdgecError:
    """For an operator whose work cannot be told from shapes."""
    return EdgecError("no-count", f"the multiplications of '{node.name}' ({node.op}) cannot be counted", hint)


def _fixed(node: Node, graph: Graph) -> bool:
    """All sides but the batch are known."""
    return all(all(graph.shapes.get(name, ())[1:]) for name in (*node.inputs, node.output))


def _parameters(graph: Graph) -> Iterator[str]:
    """Float constants, and integer ones that a DequantizeLinear reads; scales belong to neither."""
    stored = {node.inputs[0] for node in graph.nodes if node.op == "DequantizeLinear"}
    scales = {node.inputs[1] for node in graph.nodes if node.op in ("QuantizeLinear", "DequantizeLinear")}
    for name, value in graph.constants.items():
        if name in stored or (value.dtype.kind == "f" and name not in scales):
            yield name
