"""Puts a float graph into the form that the quantizer works on, without changing its function."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from edgec.pipeline.forms.scheme import Scheme
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.hard_swish import convolve_before_flatten, narrow_hard_swish, split_hard_swish
from edgec.pipeline.quantize.hard_swish_spelling import hard_swish_as_one
from edgec.pipeline.quantize.moving import blocks_as_transposes, copies_as_concats, without_expands
from edgec.pipeline.quantize.plan import Network, is_linear
from edgec.pipeline.quantize.rescaling import insert_rescaling
from edgec.pipeline.quantize.spelling import (
    affines_as_convolutions,
    differences_as_sums,
    norm_affine,
    norms_as_affines,
    norms_as_one,
    products_as_gemms,
)


def prepare(network: Network, scheme: Scheme, parts: Collection[str] = ()) -> Network:
    """Spell it for the runtime, give linear nodes constants of their own, split hard-swish where the scheme says so.

    Args:
        parts: tensors; a hard-swish that gives one of them is split although the scheme has one operator for it.
    """
    network = replace(network, graph=own_constants(spelled(network.graph, scheme)))
    splits = scheme.hard_swish == "split"
    if splits or parts:
        network = convolve_before_flatten(network)
    if scheme.hard_swish != "float":
        network = narrow_hard_swish(network)
    if splits or parts:
        network = split_hard_swish(network, None if splits else parts)
    return insert_rescaling(network, scheme) if scheme.rescale_activations else network


def spelled(graph: Graph, scheme: Scheme) -> Graph:
    """Batch norms folded, products with constants as Gemm.

    A scheme that computes outputs too gets hard-swish as one operator, and what is left of affine functions, norms,
    copies and blocks in the spelling of its runtime's kernels.
    """
    graph = fold_batch_norms(plain_gemms(products_as_gemms(without_expands(graph))))
    if not scheme.quantize_output:
        return graph
    graph = hard_swish_as_one(graph)
    graph = norms_as_affines(affines_as_convolutions(differences_as_sums(norms_as_one(graph))))
    return blocks_as_transposes(copies_as_concats(graph))


def fold_batch_norms(graph: Graph) -> Graph:
    """Multiply a BatchNormalization that follows a convolution into its weight (Jacob et al. 2018, equation 14)."""
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    folded: dict[str, Node] = {}
    for node in graph.nodes:
        conv = graph.producer.get(node.inputs[0]) if node.op == "BatchNormalization" else None
        sole = conv is not None and conv.op == "Conv" and is_linear(graph, conv) and graph.only_consumer(conv.output)
        if conv is None or not sole or any(name not in graph.constants for name in node.inputs[1:5]):
            nodes.append(node)
            continue
        gain, offset = norm_affine(node, graph.constants)
        weight = graph.constants[conv.inputs[1]]
        bias = graph.constants[conv.inputs[2]] if len(conv.inputs) > 2 and conv.inputs[2] else np.zeros(len(weight))
        names = (f"{conv.name}.folded_weight", f"{conv.name}.folded_bias")
        constants[names[0]] = (weight * gain.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
        constants[names[1]] = (bias * gain + offset).astype(np.float32)
        folded[conv.name] = replace(conv, inputs=(conv.inputs[0], *names), outputs=(node.output,))
    return graph.with_nodes((folded.get(node.name, node) for node in nodes), constants)


def plain_gemms(graph: Graph) -> Graph:
    """Write alpha, beta and transB of a Gemm into its constants: ``y = x W^T + b``."""
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    for node in graph.nodes:
        a = node.attributes
        plain = a.get("transB", 0) == 1 and a.get("alpha", 1.0) == a.get("beta", 1.0) == 1.0
        if node.op != "Gemm" or plain or not is_linear(graph, node) or a.get("transA", 0):
            nodes.append(node)
            continue
        weight = graph.constants[node.inputs[1]]
        inputs = [node.inputs[0], f"{node.name}.weight"]
        constants[inputs[1]] = (weight if a.get("transB") else weight.T) * np.float32(a.get("alpha", 1.0))
        if len(node.inputs) > 2 and node.inputs[2] in graph.constants:
            inputs.append(f"{node.name}.bias")
            constants[inputs[2]] = graph.constants[node.inputs[2]] * np.float32(a.get("beta", 1.0))
        nodes.append(replace(node, inputs=tuple(inputs), attributes={"transB": 1}))
    return graph.with_nodes(nodes, constants)


def own_constants(graph: Graph) -> Graph:
    """No two linear nodes share a weight or bias, and none is without a bias."""
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    seen: set[str] = set()
    for node in graph.nodes:
        if not is_linear(graph, node) or node.op == "MatMul":
            nodes.append(node)
            continue
        inputs = list(node.inputs[:3])
        weight = graph.constants[inputs[1]]
        if inputs[1] in seen:
            inputs[1] = f"{node.name}.own_weight"
            constants[inputs[1]] = weight
        if len(inputs) < 3 or not inputs[2]:
            size = weight.shape[1] * int(node.attributes.get("group", 1)) if node.op == "ConvTranspose" else len(weight)
            inputs[2:] = [f"{node.name}.own_bias"]
            constants[inputs[2]] = np.zeros(size, np.float32)
        elif inputs[2] in seen or graph.constants.get(inputs[2], weight[0, 0]).ndim != 1:
            constants[f"{node.name}.own_bias"] = graph.constants[inputs[2]].reshape(-1)
            inputs[2] = f"{node.name}.own_bias"
        seen.update(inputs[1:])
        nodes.append(replace(node, inputs=tuple(inputs)))
    return graph.with_nodes(nodes, constants)
