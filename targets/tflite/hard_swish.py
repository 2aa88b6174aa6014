"""HardSwish in int8 without HARD_SWISH, which XNNPACK lacks: the network stays in one delegate piece.

hardswish(x) = x * relu6(x + 3) / 6 (Howard et al., 1905.02244, section 5.2) is two int8 operators:

1. ``t = ADD(x, 3)`` into a tensor of range [0, 6], whose saturation is the relu6;
2. ``y' = MUL(x, t) = 6 * hardswish(x)``: the same integers as y, at six times the scale.

The missing 1/6 moves into the weight scale of the convolutions that read y', through operators that are linear in it.
Where something else reads y (a residual Add), ``MUL(y', 1/6)`` undoes it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgec.targets.tflite.graph import Graph, Node, Quantization, Tensor
from edgec.targets.tflite.scales import RELU6_RANGE

GAIN = 6.0
LINEAR = frozenset({"Mul", "GlobalAveragePool", "MaxPool", "AveragePool", "Flatten", "Reshape", "Squeeze", "Resize"})


def split_hard_swish(graph: Graph) -> Graph:
    """Replace every int8 HardSwish."""
    nodes: list[Node] = []
    tensors = dict(graph.tensors)
    gain: dict[str, float] = {}
    for node in graph.nodes:
        note = tensors[node.output].quantization
        if node.op == "HardSwish" and note:
            absorbed = _absorbs_gain(graph, node.output)
            expanded, added = _expand(node, tensors, absorbed)
            nodes += expanded
            tensors.update(added)
            if absorbed:
                gain[node.output] = GAIN
            continue
        carried = float(np.prod([gain.get(name, 1.0) for name in node.inputs]))
        if carried != 1.0 and node.op in LINEAR and note:
            tensors[node.output] = replace(tensors[node.output], quantization=note.scaled(carried))
            gain[node.output] = carried
        elif carried != 1.0:
            node, weights = _divide_weights(node, tensors, carried)
            tensors[weights.name] = weights
        nodes.append(node)
    return graph.with_nodes(nodes, tensors)


def _absorbs_gain(graph: Graph, name: str) -> bool:
    """Every path from the tensor ends at the data input of a Conv or Gemm and passes linear operators only."""
    if graph.is_output(name):
        return False
    return all(
        reader.op in ("Conv", "Gemm")
        or (reader.op in LINEAR and reader.activation is None and _absorbs_gain(graph, reader.output))
        for reader in graph.readers(name)
    )


def _expand(node: Node, tensors: dict[str, Tensor], absorbed: bool) -> tuple[list[Node], dict[str, Tensor]]:
    source, output = node.inputs[0], tensors[node.output]
    assert output.quantization is not None
    three = _constant(f"{output.name}/three", 3.0)
    gate = replace(output, name=f"{output.name}/relu6", quantization=RELU6_RANGE)
    product = replace(output, quantization=output.quantization.scaled(GAIN))
    if absorbed:
        nodes = [
            Node("Add", gate.name, (source, three.name), gate.name),
            Node("Mul", node.name, (source, gate.name), output.name),
        ]
        return nodes, {t.name: t for t in (three, gate, product)}
    product = replace(product, name=f"{output.name}/times6")
    sixth = _constant(f"{output.name}/sixth", 1 / GAIN)
    nodes = [
        Node("Add", gate.name, (source, three.name), gate.name),
        Node("Mul", product.name, (source, gate.name), product.name),
        Node("Mul", node.name, (product.name, sixth.name), output.name),
    ]
    return nodes, {t.name: t for t in (three, gate, product, sixth)}


def _constant(name: str, value: float) -> Tensor:
    """One value as integer 127, exact."""
    return Tensor(name, (1,), Quantization((float(np.float32(value / 127)),), 0), np.array([127], np.int8))


def _divide_weights(node: Node, tensors: dict[str, Tensor], gain: float) -> tuple[Node, Tensor]:
    weights = tensors[node.inputs[1]]
    assert weights.quantization is not None
    divided = replace(weights, name=f"{weights.name}/{node.output}", quantization=weights.quantization.scaled(1 / gain))
    return replace(node, inputs=(node.inputs[0], divided.name, *node.inputs[2:])), divided
