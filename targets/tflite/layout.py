"""Which tensors of rank 4 are stored as NHWC, and the transposes between those that are and those that are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from edgec.targets.tflite.graph import Graph, Node, Tensor

Order = Literal["channels-last", "model"]

IMAGE = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "ChannelShuffle"})
"""Operators whose kernels want NHWC."""

RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


def settle_layouts(graph: Graph) -> Graph:
    """Store images as NHWC until the model itself asks for another order, and go back where a kernel wants NHWC.

    A ``Relayout`` node stores the same tensor in the other order.
    """
    nodes: list[Node] = []
    tensors = dict(graph.tensors)
    stored: dict[tuple[str, bool], str] = {}
    for node in graph.nodes:
        order = _input_order(replace(graph, tensors=tensors), node)
        names = []
        for name in node.inputs:
            tensor = tensors.get(name)
            last = order == "channels-last"
            if order and tensor and tensor.data is None and len(tensor.shape) == 4 and tensor.channels_last != last:
                if (name, last) not in stored:
                    other = replace(tensor, name=f"{name}/{'nhwc' if last else 'nchw'}", channels_last=last)
                    tensors[other.name] = other
                    stored[name, last] = other.name
                    nodes.append(Node("Relayout", other.name, (name,), other.name))
                name = stored[name, last]
            names.append(name)
        node = replace(node, inputs=tuple(names))
        given = tensors[node.output]
        tensors[node.output] = replace(given, channels_last=_output_is_last(graph, node, tensors))
        nodes.append(node)
    return graph.with_nodes(nodes, tensors)


def keeps_stored_order(graph: Graph, node: Node) -> bool:
    """A reshape of NHWC that leaves the bytes where they are, or that Gemm's weights make up for."""
    source, output = graph.tensors[node.inputs[0]].shape, graph.tensors[node.output].shape
    if source == output or source[2:] == (1, 1):
        return len(output) < 4 or output[2:] == (1, 1) or source == output
    alone = bool(graph.readers(node.output)) and not graph.is_output(node.output)
    return len(output) == 2 and alone and all(_reads_as_rows(graph, r, node.output) for r in graph.readers(node.output))


def _reads_as_rows(graph: Graph, node: Node, name: str) -> bool:
    return node.op == "Gemm" and node.inputs[0] == name and graph.is_constant(node.inputs[1])


def _input_order(graph: Graph, node: Node) -> Order | None:
    """The order in which a node wants its computed images; None where it takes them as they are."""
    images = [t for t in _computed(graph, node) if len(t.shape) == 4]
    if not images:
        return None
    if node.op in IMAGE:
        return "channels-last"
    if node.op in RESHAPES:
        return None if keeps_stored_order(graph, node) else "model"
    if node.op in ("LayerNormalization", "MatMul", "Gemm"):
        return "model"
    axes = _axes(node, 4)
    if node.op in ("Softmax", "LpNormalization", "ArgMax"):
        return "channels-last" if axes == [1] else "model"
    if node.op in ("ReduceMean", "ReduceMax") and not node.attributes.get("keepdims", 1):
        return None if set(axes) in ({1}, {1, 2, 3}, {2, 3}) else "model"
    if node.op == "HardSigmoid":
        return "channels-last"
    return "channels-last" if any(t.channels_last for t in images) and len(images) > 1 else None


def _output_is_last(graph: Graph, node: Node, tensors: dict[str, Tensor]) -> bool:
    if len(tensors[node.output].shape) != 4:
        return True
    images = [tensors[n] for n in node.inputs if n and tensors[n].data is None and len(tensors[n].shape) == 4]
    if node.op == "Transpose":
        readers, perm = graph.readers(node.output), node.attributes.get("perm")
        moves_nothing = perm == [0, 3, 1, 2] and not tensors[node.inputs[0]].channels_last
        inside = bool(readers) and not graph.is_output(node.output)
        return inside and (moves_nothing or all(reader.op in IMAGE for reader in readers))
    if node.op in RESHAPES and not images:
        return tensors[node.output].shape[2:] == (1, 1)
    return all(tensor.channels_last for tensor in images)


def _computed(graph: Graph, node: Node) -> list[Tensor]:
    return [graph.tensors[name] for name in node.inputs if name and not graph.is_constant(name)]


def _axes(node: Node, rank: int) -> list[int]:
    given = node.attributes.get("axes", node.attributes.get("axis", -1 if node.op != "ArgMax" else 0))
    return sorted(int(axis) % rank for axis in (given if isinstance(given, (list, tuple)) else [given]))


def stored_axis(tensor: Tensor, axis: int) -> int:
    """Where an ONNX axis lies in the file."""
    rank = len(tensor.shape)
    return (0, 3, 1, 2)[axis % rank] if rank == 4 and tensor.channels_last else axis % rank
