"""Graph passes: what several ONNX nodes say and one TFLite operator does.

``prepare`` runs them in their one right order. Each takes a graph and returns another; none knows the file format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from edgec.targets.tflite.graph import Graph, Node, Quantization, Tensor
from edgec.targets.tflite.integer import activation_of, covers, real_bias

# Operators whose output integers are their input integers, moved or picked: TFLite wants equal scales on both sides.
KEEP_SCALE = frozenset(
    {"MaxPool", "AveragePool", "Pad", "Resize", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}
)
# Operators that requantize their result anyway, so that another output scale costs nothing.
RELU6_RANGE = Quantization((float(np.float32(6 / 255)),), -128)
PROBABILITY = Quantization((1 / 256,), -128)  # the only int8 output that LOGISTIC and SOFTMAX have
RESCALE = frozenset({"Conv", "Gemm", "Add", "Mul", "GlobalAveragePool"})
ACTIVATED = frozenset({"Conv", "Gemm", "Add", "Mul"})

Merge = tuple[Node, dict[str, Tensor]]
Rule = Callable[[Graph, Node, Node], Merge | None]


def prepare(graph: Graph) -> Graph:
    """All passes behind ``canonical`` that a runtime's preferences do not decide."""
    graph = merge_pairs(graph, into_convolution_padding)
    graph = merge_pairs(graph, into_activation)
    graph = merge_pairs(graph, into_hard_sigmoid)
    graph = merge_pairs(graph, into_flat_mean)
    graph = permute_after_flatten(graph)
    graph = bound_rescale(graph)
    return follow_transposes(settle_scales(graph))


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


def canonical(graph: Graph) -> Graph:
    """One spelling of each function: spatial ReduceMean, Gemm with its weights as rows, Sub and Div by a constant."""
    nodes, tensors = [], dict[str, Tensor]()
    for node in graph.nodes:
        if node.op == "ReduceMean" and _reduces_space(graph, node):
            keep = bool(node.attributes.get("keepdims", 1))
            node = replace(node, op="GlobalAveragePool", inputs=node.inputs[:1], attributes={"keepdims": keep})
        elif node.op in ("Gemm", "MatMul") and _has_columns(graph, node):
            node, constant = _rows(graph, node)
            tensors[constant.name] = constant
        elif node.op in ("Sub", "Div") and graph.is_constant(node.inputs[1]):
            node, constant = _inverse(graph, node)
            tensors[constant.name] = constant
        nodes.append(node)
    return graph.with_nodes(nodes, tensors)


def _reduces_space(graph: Graph, node: Node) -> bool:
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > 1 and graph.is_constant(node.inputs[1]):
        axes = np.atleast_1d(graph.tensors[node.inputs[1]].values).tolist()
    return len(graph.tensors[node.inputs[0]].shape) == 4 and sorted(a % 4 for a in axes or ()) == [2, 3]


def _has_columns(graph: Graph, node: Node) -> bool:
    weights = graph.tensors[node.inputs[1]]
    return weights.data is not None and len(weights.shape) == 2 and not node.attributes.get("transB")


def _rows(graph: Graph, node: Node) -> tuple[Node, Tensor]:
    """Weights (inputs, outputs) as (outputs, inputs)."""
    weights = graph.tensors[node.inputs[1]]
    note = weights.quantization
    if note and note.axis is not None:
        note = replace(note, axis=1 - note.axis)
    data = np.ascontiguousarray(weights.values.T)
    rows = Tensor(f"{weights.name}/rows", data.shape, note, data)
    return replace(
        node,
        op="Gemm",
        inputs=(node.inputs[0], rows.name, *node.inputs[2:]),
        attributes={**node.attributes, "transB": 1},
    ), rows


def _inverse(graph: Graph, node: Node) -> tuple[Node, Tensor]:
    """x - c as x + (-c), x / c as x * (1 / c)."""
    source = graph.tensors[node.inputs[1]]
    values = source.values.astype(np.float32)
    if source.quantization:
        values = (values - source.quantization.zero_point) * np.float32(source.quantization.scale[0])
    name = f"{node.output}/{'negative' if node.op == 'Sub' else 'reciprocal'}"
    constant = Tensor(name, source.shape, None, -values if node.op == "Sub" else (1 / values).astype(np.float32))
    return replace(node, op="Add" if node.op == "Sub" else "Mul", inputs=(node.inputs[0], name)), constant


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
    """clip(alpha * conv(x) + beta, 0, 1) in int8: slope and offset go into the convolution, the clip is saturation."""
    note = graph.tensors[node.output].quantization
    if not all(graph.is_constant(name) for name in conv.inputs[1:]):
        return None
    if conv.op != "Conv" or node.op != "HardSigmoid" or conv.activation or note is None or not covers(note, 0.0, 1.0):
        return None
    weights = graph.tensors[conv.inputs[1]]
    source = graph.tensors[conv.inputs[0]].quantization
    if weights.quantization is None or source is None:
        return None
    alpha, beta = (float(node.attributes.get(name, value)) for name, value in (("alpha", 0.2), ("beta", 0.5)))
    scaled = replace(weights, name=f"{weights.name}/{node.output}", quantization=weights.quantization.scaled(alpha))
    if source.scale[0] * max(scaled.quantization.scale) / note.scale[0] >= MAX_RESCALE:  # type: ignore[union-attr]
        return None
    bias = Tensor(f"{node.output}/bias", weights.shape[:1], None, alpha * real_bias(graph, conv) + beta)
    merged = replace(conv, inputs=(conv.inputs[0], scaled.name, bias.name), output=node.output)
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
        if source and source.op in ("Flatten", "Reshape") and len(graph.tensors[source.inputs[0]].shape) == 4:
            weights = graph.tensors[node.inputs[1]]
            shape = graph.tensors[source.inputs[0]].shape
            order = np.arange(int(np.prod(shape[1:]))).reshape(shape[1:]).transpose(1, 2, 0).ravel()
            data = np.take(weights.values, order, axis=1)
            permuted = replace(weights, name=f"{weights.name}/{node.output}", data=data)
            tensors[permuted.name] = permuted
            node = replace(node, inputs=(node.inputs[0], permuted.name, *node.inputs[2:]))
        nodes.append(node)
    return graph.with_nodes(nodes, tensors)


# What XNNPACK's qs8 operators take: input_scale * weight_scale / output_scale below 2**8 in a convolution, and
# input_scale / output_scale of at least 2**-10 in an addition.
MAX_RESCALE = 256.0
MIN_ADD_RESCALE = 2.0**-10


def bound_rescale(graph: Graph) -> Graph:
    """Widen the ranges of dead tensors, on which XNNPACK refuses an operator and the graph falls apart.

    A convolution's output so narrow that one step of the accumulator is 256 output steps or more has the same value for
    every image; past the limit there are still 128 output steps for one of the accumulator. An addend whose whole range
    is a quarter step of the sum changes nothing in it.
    """
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        note, scale = tensors[node.output].quantization, _accumulator_scale(graph, node)
        if note and scale / note.scale[0] >= MAX_RESCALE:
            tensors[node.output] = _at_scale(tensors[node.output], 2 * scale / MAX_RESCALE)
    for node in graph.nodes:
        sum_scale = _sum_scale(tensors, node)
        for name in node.inputs if sum_scale else ():
            note, maker = tensors[name].quantization, graph.producer(name)
            alone = maker is not None and maker.op in RESCALE and graph.only_reader(name) is node
            if note and alone and note.scale[0] < sum_scale * MIN_ADD_RESCALE:
                tensors[name] = _at_scale(tensors[name], 1.01 * sum_scale * MIN_ADD_RESCALE)
    return replace(graph, tensors=tensors)


def _sum_scale(tensors: Mapping[str, Tensor], node: Node) -> float:
    """Output scale of an Add, or of the addition inside a split HardSwish; 0 for any other operator."""
    note = tensors[node.output].quantization
    if note is None or node.op not in ("Add", "HardSwish"):
        return 0.0
    return note.scale[0] if node.op == "Add" else RELU6_RANGE.scale[0]


def _at_scale(tensor: Tensor, scale: float) -> Tensor:
    assert tensor.quantization is not None
    return replace(tensor, quantization=replace(tensor.quantization, scale=(float(np.float32(scale)),)))


def _accumulator_scale(graph: Graph, node: Node) -> float:
    """The largest real value of one accumulator step of a linear operator; 0 for any other."""
    if node.op not in ("Conv", "Gemm"):
        return 0.0
    notes = [graph.tensors[name].quantization for name in node.inputs[:2]]
    return float(np.prod([max(note.scale) for note in notes if note])) if all(notes) else 0.0


def settle_scales(graph: Graph) -> Graph:
    """Give both sides of a scale-keeping operator, and all sides of a Concat, one quantization.

    The output takes the input's, which loses nothing: values are picked or averaged, so the range cannot grow. A
    Concat's inputs take the output's where their producers requantize anyway; any other gets a QUANTIZE in between.
    """
    notes = {name: tensor.quantization for name, tensor in graph.tensors.items()}
    for node in reversed(graph.nodes):
        if node.op in KEEP_SCALE and notes[node.inputs[0]] is None:
            notes[node.inputs[0]] = notes[node.output]
    nodes, tensors = [], dict[str, Tensor]()
    for node in graph.nodes:
        if node.op in KEEP_SCALE:
            notes[node.output] = notes[node.inputs[0]]
        elif node.op in ("Sigmoid", "Softmax") and notes[node.output]:
            notes[node.output] = PROBABILITY
        elif node.op == "Concat" and notes[node.output]:
            _settle_concat(graph, node, notes)
    for node in graph.nodes:
        if node.op == "Concat" and notes[node.output]:
            node, conversions, added = _requantized_inputs(graph, node, notes)
            nodes += conversions
            tensors.update(added)
        nodes.append(node)
    noted = {n: replace(t, quantization=notes[n]) for n, t in graph.tensors.items() if t.quantization is not notes[n]}
    return graph.with_nodes(nodes, {**noted, **tensors})


def _settle_concat(graph: Graph, node: Node, notes: dict[str, Quantization | None]) -> None:
    for name in node.inputs:
        chain = [name]
        while (maker := graph.producer(chain[-1])) and maker.op in KEEP_SCALE and graph.only_reader(chain[-1]):
            chain.append(maker.inputs[0])
        if maker and maker.op in RESCALE and graph.only_reader(chain[-1]):
            notes.update(dict.fromkeys(chain, notes[node.output]))


def _requantized_inputs(
    graph: Graph, node: Node, notes: dict[str, Quantization | None]
) -> tuple[Node, list[Node], dict[str, Tensor]]:
    inputs, conversions, tensors = [], [], dict[str, Tensor]()
    for name in node.inputs:
        if notes[name] != notes[node.output] and not graph.is_constant(name):
            converted = replace(graph.tensors[name], name=f"{name}/{node.output}", quantization=notes[node.output])
            tensors[converted.name] = converted
            conversions.append(Node("QuantizeLinear", converted.name, (name,), converted.name))
            name = converted.name
        inputs.append(name)
    return replace(node, inputs=tuple(inputs)), conversions, tensors


def follow_transposes(graph: Graph) -> Graph:
    """Tensors behind a Transpose keep the order that the model asked for."""
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        asked = node.op == "Transpose" or any(name and not tensors[name].channels_last for name in node.inputs)
        if asked:
            tensors[node.output] = replace(tensors[node.output], channels_last=False)
    return replace(graph, tensors=tensors)
