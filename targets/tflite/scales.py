"""Scales that TFLite or XNNPACK ties together, and ranges that XNNPACK does not take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgec.targets.tflite.graph import Graph, Node, Quantization, Tensor
from edgec.targets.tflite.integer import activation_of, clip_bounds, covers

# Operators whose output integers are their input integers, moved or picked: TFLite wants equal scales on both sides.
KEEP_SCALE = frozenset(
    {"MaxPool", "AveragePool", "Pad", "Resize", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}
    | {"ReduceMax", "Gather", "Slice", "ChannelShuffle", "Relayout"}
)
# Operators that requantize their result anyway, so that another output scale costs nothing.
RELU6_RANGE = Quantization((float(np.float32(6 / 255)),), -128)
PROBABILITY = Quantization((1 / 256,), -128)
SIGNED_UNIT = Quantization((1 / 128,), 0)
PRESCRIBED = {  # the only int8 outputs that these operators have
    "Sigmoid": PROBABILITY, "Softmax": PROBABILITY, "Tanh": SIGNED_UNIT, "LpNormalization": SIGNED_UNIT,
}  # fmt: skip
WIDE_UNIT = Quantization((1 / 32768,), 0, dtype="int16")
RESCALE = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Sub", "GlobalAveragePool", "LayerNormalization"}
)

# What XNNPACK's qs8 operators take: input_scale * weight_scale / output_scale below 2**8 in a convolution, and
# input_scale / output_scale of at least 2**-10 in an addition.
MAX_RESCALE = 256.0
MIN_ADD_RESCALE = 2.0**-10

# What TFLite's int16 addition takes: 2 * input_scale / output_scale below 2**15; it ends the process otherwise.
MAX_WIDE_ADD_RESCALE = 2.0**14


def bound_rescale(graph: Graph) -> Graph:
    """Widen the ranges of dead tensors, which kernels refuse: in XNNPACK the graph would fall apart.

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
    for node in graph.nodes:
        sum_note = tensors[node.output].quantization
        if node.op in ("Add", "Sub") and sum_note and sum_note.is_wide:
            addends = [note.scale[0] for name in node.inputs if (note := tensors[name].quantization)]
            least = 1.01 * max(addends, default=0.0) / MAX_WIDE_ADD_RESCALE
            if sum_note.scale[0] < least:
                tensors[node.output] = _at_scale(tensors[node.output], least)
    return replace(graph, tensors=tensors)


def _sum_scale(tensors: Mapping[str, Tensor], node: Node) -> float:
    """Output scale of an Add or Sub, or of the addition inside a split HardSwish; 0 for any other operator."""
    note = tensors[node.output].quantization
    if note is None or node.op not in ("Add", "Sub", "HardSwish"):
        return 0.0
    return note.scale[0] if node.op != "HardSwish" else RELU6_RANGE.scale[0]


def _at_scale(tensor: Tensor, scale: float) -> Tensor:
    assert tensor.quantization is not None
    return replace(tensor, quantization=replace(tensor.quantization, scale=(float(np.float32(scale)),)))


def _accumulator_scale(graph: Graph, node: Node) -> float:
    """The largest real value of one accumulator step of a linear operator; 0 for any other."""
    if node.op not in ("Conv", "ConvTranspose", "Gemm"):
        return 0.0
    notes = [graph.tensors[name].quantization for name in node.inputs[:2]]
    return float(np.prod([max(note.scale) for note in notes if note])) if all(notes) else 0.0


def keeps_scale(graph: Graph, node: Node) -> bool:
    """The output's integers are the input's: moved, picked, or compared with a bound that is no activation."""
    if node.op != "Clip":
        return node.op in KEEP_SCALE
    note, bounds = graph.tensors[node.output].quantization, clip_bounds(graph, node)
    return bounds is not None and activation_of(graph, node) is None and not (note and covers(note, *bounds))


def settle_scales(graph: Graph) -> Graph:
    """Give both sides of a scale-keeping operator, and all sides of a Concat, one quantization.

    The output takes the input's, which loses nothing: values are picked or averaged, so the range cannot grow. A
    Concat's inputs take the output's where their producers requantize anyway; any other gets a QUANTIZE in between.
    """
    notes = {name: tensor.quantization for name, tensor in graph.tensors.items()}
    for node in reversed(graph.nodes):
        if keeps_scale(graph, node) and notes[node.inputs[0]] is None:
            notes[node.inputs[0]] = notes[node.output]
    nodes, tensors = [], dict[str, Tensor]()
    for node in graph.nodes:
        if keeps_scale(graph, node):
            notes[node.output] = notes[node.inputs[0]]
        elif node.op in PRESCRIBED and (note := notes[node.output]):
            notes[node.output] = WIDE_UNIT if note.is_wide else PRESCRIBED[node.op]
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
