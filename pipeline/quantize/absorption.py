"""Moves what a channel always carries into the biases behind it: its range need not reach from zero to there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.plan import Network, is_linear

MARGIN = 2.0
"""Tail lengths below the least value seen: one image in a thousand falls below it if a hundred were seen."""


def absorb_high_biases(network: Network) -> Network:
    """High-bias absorption (Nagel et al. 2019, arXiv:1906.04721, section 4.1.3): ``relu(x) = relu(x - c) + c``.

    The equation holds wherever x >= c. The paper takes c from the batch norm, three deviations below the mean; here it
    is the least value that the calibration saw, with a margin. A padded convolution behind would pad with 0 instead of
    -c, so it forbids the rewrite.
    """
    for node in network.graph.nodes:
        relu = network.graph.only_consumer(node.output)
        if relu is None or relu.op != "Relu" or not _takes_bias(network.graph, node) or relu.output not in network.seen:
            continue
        readers = network.graph.consumers.get(relu.output, ())
        constant = np.maximum(network.seen[relu.output].reach(MARGIN)[0], 0.0)
        if constant.any() and _shiftable(network, relu.output, readers):
            network = _shift(network, node, relu.output, readers, constant)
    return network


def _takes_bias(graph: Graph, node: Node) -> bool:
    return node.op in ("Conv", "Gemm") and is_linear(graph, node) and len(node.inputs) > 2 and node.inputs[2] != ""


def _shiftable(network: Network, tensor: str, readers: tuple[Node, ...]) -> bool:
    graph = network.graph
    unpadded = [
        _takes_bias(graph, node)
        and node.inputs[0] == tensor
        and not any(node.attributes.get("pads", ()))
        and node.attributes.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
        for node in readers
    ]
    return bool(unpadded) and all(unpadded) and tensor not in graph.outputs


def _shift(network: Network, node: Node, tensor: str, readers: tuple[Node, ...], constant: Array) -> Network:
    graph, seen = network.graph, network.seen
    changed = {node.inputs[2]: graph.constants[node.inputs[2]] - constant}
    for reader in readers:
        changed[reader.inputs[2]] = graph.constants[reader.inputs[2]] + _response(graph, reader, constant)
    biases = {name: bias.astype(np.float32) for name, bias in changed.items()}
    moved = {name: seen[name].shifted(-constant) for name in (node.output, tensor) if name in seen}
    return replace(network, graph=graph.with_constants(biases), seen={**seen, **moved})


def _response(graph: Graph, node: Node, constant: Array) -> Array:
    """What the layer makes of an input that is ``constant``, ``(C,)``, at every position."""
    response: Array
    weight = graph.constants[node.inputs[1]].astype(np.float64)
    if node.op == "Gemm":
        response = (weight if node.attributes.get("transB") else weight.T) @ constant
        return response
    groups = int(node.attributes.get("group", 1))
    summed = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1).sum(axis=3)
    response = np.einsum("goi,gi->go", summed, constant.reshape(groups, -1)).reshape(-1)
    return response
