"""Graph passes: what several ONNX nodes say and one TFLite operator does.

``prepare`` runs them in their one right order. Each takes a graph and returns another; none knows the file format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgec.targets.tflite.graph import Graph, Node, Tensor
from edgec.targets.tflite.integer import activation_of, real_bias, saturates
from edgec.targets.tflite.layout import RESHAPES, settle_layouts
from edgec.targets.tflite.scales import MAX_RESCALE, bound_rescale, settle_scales

ACTIVATED = frozenset({"Conv", "ConvTranspose", "Gemm", "Add", "Mul"})

Merge = tuple[Node, dict[str, Tensor]]
Rule = Callable[[Graph, Node, Node], Merge | None]


def prepare(graph: Graph) -> Graph:
    """All passes behind ``canonical`` that a runtime's preferences do not decide."""
    graph = merge_pairs(graph, into_convolution_padding)
    graph = merge_pairs(graph, into_activation)
    graph = merge_pairs(graph, into_hard_sigmoid)
    graph = merge_pairs(graph, into_flat_mean)
    graph = settle_layouts(shuffles(graph))
    graph = permute_after_flatten(graph)
    graph = bound_rescale(graph)
    return settle_scales(graph)


def shuffles(graph: Graph) -> Graph:
    """Reshape to groups, Transpose of both, Reshape back: one operator on the channels."""
    nodes: list[Node] = []
    gone: set[str] = set()
    for node in graph.nodes:
        turn = graph.producer(node.inputs[0]) if node.op == "Reshape" else None
        apart = graph.producer(turn.inputs[0]) if turn and turn.op == "Transpose" else None
        if turn and apart and apart.op == "Reshape" and _is_shuffle(graph, apart, turn, node):
            groups = graph.tensors[apart.output].shape[1]
            node = Node("ChannelShuffle", node.name, apart.inputs[:1], node.output, {"groups": groups})
            gone |= {apart.output, turn.output}
        nodes.append(node)
    return graph.with_nodes([node for node in nodes if node.output not in gone])


def _is_shuffle(graph: Graph, apart: Node, turn: Node, whole: Node) -> bool:
    source, groups, result = (graph.tensors[n].shape for n in (apart.inputs[0], apart.output, whole.output))
    alone = graph.only_reader(apart.output) is turn and graph.only_reader(turn.output) is whole
    spatial = len(source) == 4 and source == result and groups[-2:] == source[2:] and len(groups) == 5
    return alone and spatial and list(turn.attributes.get("perm", ())) == [0, 2, 1, 3, 4]


def merge_pairs(graph: Graph, rule: Rule) -> Graph:
    """Replace a node and the only reader of its output by what ``rule(graph, node, reader)`` makes of them."""
    kept: list[Node] = []
    made: dict[str, int] = {}
    tensors: dict[str, Tensor] = {}
    for node in graph.nodes:
        at = made.get(node.inputs[0]) if node.inputs else None
        alone = at is not None and graph.only_reader(node.inputs[0]) is node
        merge = (
            rule(replace(graph, tensors={**graph.tensors, **tensors}), kept[at], node)
            if alone and at is not None
            else None
        )
        if merge is None or at is None:
            made[node.output] = len(kept)
            kept.append(node)
            continue
        kept[at], changed = merge
        made[node.output] = at
        tensors.update(changed)
    return graph.with_nodes(kept, tensors)


def into_convolution_padding(graph: Graph, pad: Node, conv: Node) -> Merge | None:
    """A zero Pad before a Conv is the Conv's own padding, which may then be SAME."""
    if pad.op != "Pad" or conv.op != "Conv" or conv.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    pads = pad_amounts(graph, pad)
    if (
        pads is None
        or len(pads) != 8
        or pad_value(graph, pad) != 0
        or any(pads[i] for i in (0, 1, 4, 5))
        or min(pads) < 0
    ):
        return None
    own = conv.attributes.get("pads", [0, 0, 0, 0])
    total = [a + b for a, b in zip(own, (pads[2], pads[3], pads[6], pads[7]), strict=True)]
    merged = replace(conv, inputs=(pad.inputs[0], *conv.inputs[1:]), attributes={**conv.attributes, "pads": total})
    source, padded = graph.tensors[pad.inputs[0]], graph.tensors[pad.output]
    note = source.quantization or padded.quantization
    return merged, {source.name: replace(source, quantization=note)}


def pad_amounts(graph: Graph, pad: Node) -> list[int] | None:
    """ONNX pads, all begins and then all ends; None where they are computed or apply to some axes only."""
    if pad.attributes.get("mode", "constant") != "constant" or (len(pad.inputs) > 3 and pad.inputs[3]):
        return None
    if not graph.is_constant(pad.inputs[1]):
        return None
    return [int(v) for v in np.ravel(graph.tensors[pad.inputs[1]].values)]


def pad_value(graph: Graph, pad: Node) -> float:
    """The padded constant in real units."""
    if len(pad.inputs) < 3 or not pad.inputs[2]:
        return 0.0
    tensor = graph.tensors[pad.inputs[2]]
    value = float(np.ravel(tensor.values)[0])
    note = tensor.quantization
    return (value - note.zero_point) * note.scale[0] if note else value


def into_activation(graph: Graph, producer: Node, node: Node) -> Merge | None:
    """Relu, Relu6 and Clip(-1, 1) behind an operator with a fused activation."""
    activation = activation_of(graph, node)
    if producer.op not in ACTIVATED or producer.activation or activation is None:
        return None
    return replace(producer, output=node.output, activation=activation), {}


def into_hard_sigmoid(graph: Graph, conv: Node, node: Node) -> Merge | None:
    """clip(alpha * conv(x) + beta, 0, 1) of integers: slope and offset go into the convolution, saturation is the clip.

    In int16, where 0 is in the middle, a RELU is the clip's lower end.
    """
    note = graph.tensors[node.output].quantization
    if not all(graph.is_constant(name) for name in conv.inputs[1:]):
        return None
    if conv.op != "Conv" or node.op != "HardSigmoid" or conv.activation or note is None or not saturates(note):
        return None
    weights = graph.tensors[conv.inputs[1]]
    source = graph.tensors[conv.inputs[0]].quantization
    if weights.quantization is None or source is None:
        return None
    alpha, beta = (float(node.attributes.get(name, value)) for name, value in (("alpha", 0.2), ("beta", 0.5)))
    finer = weights.quantization.scaled(alpha)
    if source.scale[0] * max(finer.scale) / note.scale[0] >= MAX_RESCALE:
        return None
    scaled = replace(weights, name=f"{weights.name}/{node.output}", quantization=finer)
    bias = Tensor(f"{node.output}/bias", weights.shape[:1], None, alpha * real_bias(graph, conv) + beta)
    inputs, activation = (conv.inputs[0], scaled.name, bias.name), "RELU" if note.is_wide else None
    merged = replace(conv, inputs=inputs, output=node.output, activation=activation)
    return merged, {scaled.name: scaled, bias.name: bias}


def into_flat_mean(graph: Graph, mean: Node, node: Node) -> Merge | None:
    """GlobalAveragePool and the Flatten behind it are one MEAN that drops its axes."""
    if mean.op != "GlobalAveragePool" or node.op not in ("Flatten", "Reshape", "Squeeze"):
        return None
    if graph.tensors[node.output].shape != graph.tensors[mean.output].shape[:2]:
        return None
    flat = replace(mean, output=node.output, attributes={**mean.attributes, "keepdims": False})
    before, after = graph.tensors[mean.output], graph.tensors[node.output]
    return flat, {after.name: replace(after, quantization=after.quantization or before.quantization)}


def permute_after_flatten(graph: Graph) -> Graph:
    """Reorder a Gemm's columns from (C, H, W) to the stored (H, W, C) where it reads a flattened feature map."""
    nodes, tensors = [], dict[str, Tensor]()
    for node in graph.nodes:
        source = graph.producer(node.inputs[0]) if node.op == "Gemm" and graph.is_constant(node.inputs[1]) else None
        flat = len(graph.tensors[node.inputs[0]].shape) == 2
        if source and flat and source.op in RESHAPES and _stored_by_pixels(graph, source):
            weights = graph.tensors[node.inputs[1]]
            shape = graph.tensors[source.inputs[0]].shape
            order = np.arange(int(np.prod(shape[1:]))).reshape(shape[1:]).transpose(1, 2, 0).ravel()
            data = np.take(weights.values, order, axis=1)
            permuted = replace(weights, name=f"{weights.name}/{node.output}", data=data)
            tensors[permuted.name] = permuted
            node = replace(node, inputs=(node.inputs[0], permuted.name, *node.inputs[2:]))
        nodes.append(node)
    return graph.with_nodes(nodes, tensors)


def _stored_by_pixels(graph: Graph, node: Node) -> bool:
    source = graph.tensors[node.inputs[0]]
    return len(source.shape) == 4 and source.channels_last
