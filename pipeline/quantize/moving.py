"""Repeated and rearranged values in the spelling of integer kernels, which lack ONNX's own operators for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.affine import Array

BROADCASTING = frozenset({"Add", "Div", "Max", "Min", "Mul", "Sub"})
MOST_COPIES = 16

Shape = tuple[int | None, ...]


def without_expands(graph: Graph) -> Graph:
    """An Expand whose readers broadcast to the same shape themselves, as in ``x * gate.expand_as(x)``, is nothing."""
    nodes = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        if node.op != "Expand" or node.output in graph.outputs:
            continue
        source = nodes[node.name].inputs[0]
        readers = [nodes[reader.name] for reader in graph.consumers.get(node.output, ())]
        if readers and all(_broadcasts(graph, node, source, reader) for reader in readers):
            for reader in readers:
                inputs = tuple(source if name == node.output else name for name in reader.inputs)
                nodes[reader.name] = replace(reader, inputs=inputs)
            del nodes[node.name]
    return graph if len(nodes) == len(graph.nodes) else graph.with_nodes(nodes.values())


def _broadcasts(graph: Graph, expand: Node, source: str, reader: Node) -> bool:
    """The other operand alone makes the expanded shape."""
    if reader.op not in BROADCASTING or len(reader.inputs) != 2 or reader.inputs[0] == reader.inputs[1]:
        return False
    other = next(name for name in reader.inputs if name != expand.output)
    given, wanted, beside = (graph.shapes.get(name, ()) for name in (source, expand.output, other))
    if not len(given) == len(wanted) == len(beside):
        return False
    return all(a == b or (b is not None and b == c) for a, b, c in zip(given, wanted, beside, strict=True))


def copies_as_concats(graph: Graph) -> Graph:
    """An Expand or Tile along one axis is a Concat of as many copies."""
    return graph.with_nodes([_joined(graph, node) for node in graph.nodes])


def _joined(graph: Graph, node: Node) -> Node:
    if node.op not in ("Expand", "Tile"):
        return node
    given, made = graph.shapes.get(node.inputs[0], ()), graph.shapes.get(node.output, ())
    changed = [axis for axis, sides in enumerate(zip(given, made, strict=False)) if sides[0] != sides[1]]
    if len(given) != len(made) or len(changed) != 1 or changed == [0]:
        return node
    before, after = given[changed[0]], made[changed[0]]
    if not before or not after or after // before > MOST_COPIES:
        return node
    return replace(node, op="Concat", inputs=node.inputs[:1] * (after // before), attributes={"axis": changed[0]})


def blocks_as_transposes(graph: Graph) -> Graph:
    """DepthToSpace and SpaceToDepth are a Reshape, a Transpose of six axes and a Reshape."""
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    for node in graph.nodes:
        shape = graph.shapes.get(node.inputs[0], ()) if node.op in ("DepthToSpace", "SpaceToDepth") else ()
        if len(shape) != 4 or not all(shape[1:]):
            nodes.append(node)
            continue
        apart, order, whole = _block_sides(node, shape)
        names = [f"{node.output}.{part}" for part in ("apart", "turned", "apart_sides", "sides")]
        constants |= {names[2]: np.array(apart, np.int64), names[3]: np.array(whole, np.int64)}
        nodes.append(Node("Reshape", (node.inputs[0], names[2]), (names[0],), {}, f"{node.name}.apart"))
        nodes.append(Node("Transpose", (names[0],), (names[1],), {"perm": order}, f"{node.name}.turned"))
        nodes.append(Node("Reshape", (names[1], names[3]), node.outputs, {}, node.name))
    return graph.with_nodes(nodes, constants)


def _block_sides(node: Node, shape: Shape) -> tuple[list[int], list[int], list[int]]:
    """Sides apart, the order of the six axes, and sides of the result; 0 is the batch as it is."""
    block = int(node.attributes["blocksize"])
    channels, height, width = (int(side or 0) for side in shape[1:])
    if node.op == "SpaceToDepth":
        rows, columns = height // block, width // block
        return (
            [0, channels, rows, block, columns, block],
            [0, 3, 5, 1, 2, 4],
            [0, channels * block * block, rows, columns],
        )
    kept = channels // (block * block)
    whole = [0, kept, height * block, width * block]
    if node.attributes.get("mode", "DCR") == "CRD":
        return [0, kept, block, block, height, width], [0, 1, 4, 2, 5, 3], whole
    return [0, block, block, kept, height, width], [0, 3, 4, 1, 5, 2], whole
