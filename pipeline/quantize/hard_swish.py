"""Splits hard-swish into operators that integer kernels have."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

import numpy as np

from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.channels import Channels
from edgec.pipeline.quantize.plan import Network, is_linear
from edgec.pipeline.quantize.streams import find_streams, rescale

_BOUNDS = {"zero": 0, "six": 6}
_GATE = Channels(np.zeros(1), np.full(1, 6.0), np.full(1, 3.0), np.full(1, 12.0))
"""``[0, 6]``, whatever the data; the moments are those of a uniform density."""


def narrow_hard_swish(network: Network) -> Network:
    """Let the range of what only a hard-swish reads start at -3: it is 0 there and below."""
    graph, seen = network.graph, dict(network.seen)
    for node in graph.nodes:
        source = node.inputs[0] if node.op == "HardSwish" else ""
        if source in seen and graph.only_consumer(source) is node:
            seen[source] = seen[source].within(-3.0, np.inf)
    return replace(network, seen=seen)


def split_hard_swish(network: Network, parts: Container[str] | None = None) -> Network:
    """Replace ``y = HardSwish(x)`` by operators that integer kernels have.

    1. ``t = Clip(Conv(x), 0, 6)`` with a depthwise 1x1 convolution of weight 1 and bias 3; the clip is saturation.
    2. ``y6 = Mul(x, t)``, six times the hard-swish (Howard et al. 2019, arXiv:1905.02244, section 5.2).
    3. the 1/6 moves into the weights that read y6, or into a Mul where something else reads it.

    Args:
        parts: tensors that include the outputs of those that are split; all are where None.
    """
    graph, seen = network.graph, dict(network.seen)
    nodes: list[Node] = []
    constants: dict[str, Array] = {f"hard_swish.{name}": np.array(value, np.float32) for name, value in _BOUNDS.items()}
    results = []
    for node in graph.nodes:
        shape = graph.shapes.get(node.inputs[0], ()) if node.op == "HardSwish" else ()
        stays = parts is not None and node.output not in parts
        if len(shape) not in (2, 4) or not shape[1] or stays:
            nodes.append(node)
            continue
        nodes.extend(_split_nodes(node, shape[1], len(shape), constants))
        results.append(node.output)
        seen[f"{node.output}.gate"] = _GATE
    return _divide_by_six(Network(graph.with_nodes(nodes, constants), seen), results)


def _split_nodes(node: Node, channels: int, rank: int, constants: dict[str, Array]) -> list[Node]:
    x, y = node.inputs[0], node.output
    shifted, gate = f"{y}.shifted", f"{y}.gate"
    product = Node("Mul", (x, gate), (y,), {}, f"{node.name}.product")
    clip = Node("Clip", (shifted, "hard_swish.zero", "hard_swish.six"), (gate,), {}, f"{node.name}.clip")
    if rank == 2:
        constants["hard_swish.three"] = np.array(3, np.float32)
        return [Node("Add", (x, "hard_swish.three"), (shifted,), {}, f"{node.name}.shift"), clip, product]
    weight, bias = f"{y}.gate_weight", f"{y}.gate_bias"
    constants[weight], constants[bias] = np.ones((channels, 1, 1, 1), np.float32), np.full(channels, 3, np.float32)
    attributes = {"group": channels, "kernel_shape": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0]}
    return [Node("Conv", (x, weight, bias), (shifted,), attributes, f"{node.name}.shift"), clip, product]


def _divide_by_six(network: Network, products: list[str]) -> Network:
    """The products are six times too large: the weights behind each divide, or a Mul where something else reads it.

    One of a tensor that is itself six times too large, as behind a residual sum of products, is so 36 times. Where two
    that share a stream would differ in it, or one is made of its own stream, each gets its Mul.
    """
    made = frozenset(products)
    streams = [stream for stream in find_streams(network.graph, sources=made) if made.intersection(stream.tensors)]
    operand = {name: network.graph.producer[name].inputs[0] for name in products}
    waiting = {name for stream in streams for name in stream.tensors}
    times: dict[str, float] = {}
    for stream in streams:
        operands = {operand[name] for name in made.intersection(stream.tensors)}
        found = {6.0 * times.get(name, 1.0) for name in operands}
        if len(found) == 1 and waiting.isdisjoint(operands):
            times |= dict.fromkeys(stream.tensors, found.pop())
            network = rescale(network, stream, np.full(stream.num_channels, times[stream.tensors[0]]))
        waiting.difference_update(stream.tensors)
    nodes: list[Node] = []
    seen, constants = dict(network.seen), {"hard_swish.sixth": np.array(1 / 6, np.float32)}
    for node in network.graph.nodes:
        if node.output not in made - times.keys():
            nodes.append(node)
            continue
        inner, size = f"{node.output}.times_six", 6.0 * times.get(node.inputs[0], 1.0)
        part = "hard_swish.sixth" if size == 6.0 else f"hard_swish.sixth.{size / 6:g}"
        constants[part] = np.array(1 / size, np.float32)
        nodes.append(replace(node, outputs=(inner,)))
        nodes.append(Node("Mul", (inner, part), (node.output,), {}, f"{node.name}.sixth"))
        if node.output in seen:
            seen[inner] = seen[node.output].scaled(size)
    return Network(network.graph.with_nodes(nodes, constants), seen)


def convolve_before_flatten(network: Network) -> Network:
    """Where hard-swish follows ``Gemm(Flatten(x))`` of pooled features, compute both on ``(N, C, 1, 1)``, then flatten.

    The Gemm becomes a 1x1 convolution; its hard-swish can be split like the others.
    """
    graph = network.graph
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    moved: dict[str, str] = {}
    for node in graph.nodes:
        flatten = graph.producer.get(node.inputs[0]) if node.op == "Gemm" and is_linear(graph, node) else None
        reader = graph.only_consumer(node.output)
        if flatten is not None and _flattens_vector(graph, flatten) and reader is not None and reader.op == "HardSwish":
            name = f"{node.name}.weight_1x1"
            constants[name] = graph.constants[node.inputs[1]][:, :, None, None]
            attributes = {"group": 1, "kernel_shape": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0]}
            inputs = (flatten.inputs[0], name, *node.inputs[2:])
            nodes.append(Node("Conv", inputs, (f"{node.output}.map",), attributes, node.name))
            moved[node.output] = f"{node.output}.map"
        elif node.op == "HardSwish" and node.inputs[0] in moved:
            inner = moved[node.output] = f"{node.output}.map"
            nodes.append(replace(node, inputs=(moved[node.inputs[0]],), outputs=(inner,)))
            nodes.append(Node("Flatten", (inner,), (node.output,), {"axis": 1}, f"{node.name}.flatten"))
        else:
            nodes.append(node)
    seen = network.seen
    copied = {moved[name]: seen[name] for name in moved if name in seen}
    return Network(graph.with_nodes(_reachable(nodes, graph.outputs), constants), {**seen, **copied})


def _flattens_vector(graph: Graph, node: Node) -> bool:
    return node.op == "Flatten" and graph.shapes.get(node.inputs[0], ())[2:] == (1, 1)


def _reachable(nodes: list[Node], outputs: tuple[str, ...]) -> list[Node]:
    """Nodes that some output depends on, in the same order."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]
