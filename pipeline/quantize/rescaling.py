"""Per-channel constants in front of QuantizeLinear, for runtimes that fuse them into the float epilogue before it.

The idea of SmoothQuant (Xiao et al. 2023, arXiv:2211.10438) where no weight row is there to take the scale: a
hard-swish or a product computed in float stands between the tensor and the layer that made it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgec.pipeline.forms.scheme import Scheme
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.plan import Network, integer_nodes, quantized_tensors
from edgec.pipeline.quantize.streams import absorbs, find_streams, is_channel_gain


def insert_rescaling(network: Network, scheme: Scheme) -> Network:
    """Put ``Mul(x, 1)`` per channel where a quantized tensor that only weights read cannot be scaled otherwise.

    A product with a squeeze-excite gate takes it on the gate, which is one value per channel already.
    """
    graph = network.graph
    scalable = {name for stream in find_streams(graph, frozenset(scheme.equalize)) for name in stream.tensors}
    integer, _ = integer_nodes(graph, scheme, {})
    wanted = [name for name in quantized_tensors(graph, scheme, integer) if name not in scalable]
    points = {_scaling_point(graph, name) for name in wanted if _weights_read(graph, name)}
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    for node in graph.nodes:
        if node.output not in points:
            nodes.append(node)
            continue
        plain, gain = f"{node.output}.plain", f"{node.output}.gain"
        shape = graph.shapes[node.output]
        constants[gain] = np.ones((1, shape[1] or 1, *[1] * (len(shape) - 2)), np.float32)
        nodes.append(replace(node, outputs=(plain,)))
        nodes.append(Node("Mul", (plain, gain), (node.output,), {}, f"{node.name}.rescale"))
    return replace(network, graph=graph.with_nodes(nodes, constants))


def remove_unused_rescaling(graph: Graph) -> Graph:
    """Drop the constants that stayed at 1."""
    kept: list[Node] = []
    plain: dict[str, str] = {}
    for node in graph.nodes:
        if is_channel_gain(graph, node) and (graph.constants[node.inputs[1]] == 1).all():
            plain[node.inputs[0]] = node.output
        else:
            kept.append(node)
    return graph.with_nodes(
        replace(node, outputs=tuple(plain.get(name, name) for name in node.outputs)) for node in kept
    )


def _weights_read(graph: Graph, name: str) -> bool:
    readers = graph.consumers.get(name, ())
    known = len(graph.shapes.get(name, ())) in (2, 4) and bool(graph.shapes[name][1])
    made = graph.producer.get(name)
    return known and made is not None and bool(readers) and all(absorbs(graph, node, name) for node in readers)


def _scaling_point(graph: Graph, name: str) -> str:
    made = graph.producer[name]
    if made.op != "Mul" or len(graph.data_inputs(made)) != 2 or made.output in graph.outputs:
        return name
    vectors = [data for data in made.inputs if graph.shapes.get(data, ())[2:] == (1, 1)]
    return vectors[0] if len(vectors) == 1 and graph.only_consumer(vectors[0]) is made else name
