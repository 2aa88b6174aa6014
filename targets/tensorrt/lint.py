"""Which Q and DQ nodes TensorRT will fuse, read off the file: a node that stays costs a kernel and a trip to memory.

The rules are those of the developer guide's chapter "Explicit Quantization" (Q/DQ layer-placement recommendations).
A *violation* is a file that TensorRT refuses or that computes in float what was meant to be integer; an *advice* is a
layer that gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx

from edgec.pipeline.network.graph import LINEAR, Graph, Node
from edgec.targets.tensorrt.bounds import meets_quantizer
from edgec.targets.tensorrt.scales import meets_quantization, scale_size

AVERAGING = ("AveragePool", "GlobalAveragePool")
POOLING = ("MaxPool", *AVERAGING)
MOVING = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Resize", "Slice", "Pad")
INTEGER = (*LINEAR, *POOLING, *MOVING, "Add", "Relu", "Clip")
"""Operators with an INT8 kernel, or that move values whatever their type."""

ABSORBED = ("Relu", "Clip")
"""Activations that run inside the convolution's kernel: a Q between the two would part them."""

MIN_CHANNELS = 16
"""Below this INT8 tensor cores are not filled; NVIDIA's ModelOpt leaves such convolutions in FP16."""


@dataclass(frozen=True)
class Finding:
    """One node that the rules object to.

    Attributes:
        rule: in kebab-case.
        node: its name.
    """

    severity: Literal["violation", "advice"]
    rule: str
    node: str
    message: str


Rule = Callable[[Graph, Node], Iterator[Finding]]


def lint(model: onnx.ModelProto) -> list[Finding]:
    """Every finding, in the order of the nodes."""
    graph = Graph.read(model)
    return [finding for node in graph.nodes for rule in RULES for finding in rule(graph, node)]


def symmetric_int8(graph: Graph, node: Node) -> Iterator[Finding]:
    """TensorRT quantizes to signed INT8 with zero_point 0."""
    if node.op not in ("QuantizeLinear", "DequantizeLinear"):
        return
    zero_point = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
    if zero_point is None or zero_point.dtype != np.int8:
        found = "none (uint8)" if zero_point is None else str(zero_point.dtype)
        yield Finding("violation", "int8", node.name, f"expected an int8 zero_point, got {found}")
    elif np.any(zero_point):
        yield Finding("violation", "symmetric", node.name, "expected zero_point 0")


def one_scale_per_activation(graph: Graph, node: Node) -> Iterator[Finding]:
    """An activation has one scale; only weights may have one per channel."""
    if node.op == "QuantizeLinear" and node.inputs[0] not in graph.constants:
        scale = graph.constants[node.inputs[1]]
        if scale.size > 1:
            yield Finding("violation", "per-tensor-activation", node.name, f"expected one scale, got {scale.size}")


def stored_integers(graph: Graph, node: Node) -> Iterator[Finding]:
    """Constants reach DQ through Q: integer initializers need TensorRT 10, and int32 no version takes."""
    if node.op == "DequantizeLinear" and node.inputs[0] in graph.constants:
        dtype = graph.constants[node.inputs[0]].dtype
        yield Finding("violation", "stored-integers", node.name, f"expected float values with a Q, got {dtype}")


def whole_linear(graph: Graph, node: Node) -> Iterator[Finding]:
    """A convolution or product is integer when both its input and its weight come from a DQ.

    A float weight on a dequantized input is a layer that was left in float behind one that was not; a dequantized
    weight on a float input gains nothing anywhere.
    """
    if node.op not in LINEAR:
        return
    given = [is_dequantized(graph, name) for name in node.inputs[:2]]
    if given == [True, False]:
        yield Finding("advice", "float-weight", node.name, "its weight has no Q/DQ: it computes in float")
    if given == [False, True]:
        yield Finding("violation", "half-quantized", node.name, "its input has no Q/DQ: it computes in float")


def whole_add(graph: Graph, node: Node) -> Iterator[Finding]:
    """An Add is integer when all its inputs are, or when the other one is a convolution that it fuses with."""
    if node.op != "Add":
        return
    plain = [name for name in node.inputs if not is_dequantized(graph, name)]
    if len(plain) in (0, len(node.inputs)) or all(_fuses_with_add(graph, name) for name in plain):
        return
    yield Finding("violation", "half-quantized", node.name, f"'{plain[0]}' has no Q/DQ: the Add stays in float")


def integer_output(graph: Graph, node: Node) -> Iterator[Finding]:
    """A layer without weights that takes INT8 must give INT8 ("quantize both inputs and outputs"), or it is float."""
    if node.op not in ("Add", *AVERAGING) or not all(is_dequantized(graph, name) for name in node.inputs):
        return
    readers = graph.consumers.get(node.output, ())
    inner = [graph.consumers.get(reader.output, ()) if reader.op in ABSORBED else (reader,) for reader in readers]
    if node.output in graph.outputs or any(reader.op != "QuantizeLinear" for group in inner for reader in group):
        yield Finding("advice", "float-output", node.name, "its output has no Q: it computes in float")


def readers_take_integers(graph: Graph, node: Node) -> Iterator[Finding]:
    """A DQ vanishes into readers that compute on integers; in front of others it is a kernel of its own."""
    if node.op != "DequantizeLinear" or node.output in graph.outputs:
        return
    for reader in graph.consumers.get(node.output, ()):
        if reader.op not in INTEGER:
            message = f"'{reader.name}' ({reader.op}) computes in float: this DQ is a kernel of its own"
            yield Finding("advice", "dequantize-for-float", node.name, message)


def activation_inside(graph: Graph, node: Node) -> Iterator[Finding]:
    """A Q between a convolution and the activation behind it keeps the two from fusing."""
    if node.op != "QuantizeLinear":
        return
    producer, pair = graph.producer.get(node.inputs[0]), graph.only_consumer(node.output)
    reader = graph.only_consumer(pair.output) if pair is not None else None
    if producer is not None and producer.op in LINEAR and reader is not None and reader.op in ABSORBED:
        message = f"it parts '{producer.name}' from its activation '{reader.name}'"
        yield Finding("violation", "activation-outside", node.name, message)


def whole_depthwise(graph: Graph, node: Node) -> Iterator[Finding]:
    """A depthwise convolution is integer when its output is as well, behind the Relu or Clip that it absorbs.

    TensorRT 8.6 has kernels from INT8 to float for dense convolutions alone: seen on a GPU where squeeze-excite or a
    hard-swish reads it. Whether a Q behind MaxPool or a Reshape counts, nobody has seen.
    """
    if gives_floats(graph, node):
        message = "no Q right behind it: TensorRT 8.6 computes such a depthwise layer in float"
        yield Finding("advice", "depthwise-float-output", node.name, message)


def enough_channels(graph: Graph, node: Node) -> Iterator[Finding]:
    """A dense integer convolution with few channels is no faster than in FP16."""
    if node.op != "Conv" or not is_dequantized(graph, node.inputs[1]) or int(node.attributes.get("group", 1)) > 1:
        return
    channels = min(graph.shapes[node.inputs[1]][:2], key=lambda size: size or 0)
    if channels is not None and channels < MIN_CHANNELS:
        message = (
            f"{channels} channels do not fill an INT8 tensor core (ModelOpt leaves fewer than {MIN_CHANNELS} in FP16)"
        )
        yield Finding("advice", "few-channels", node.name, message)


def one_granularity(graph: Graph, node: Node) -> Iterator[Finding]:
    """A constant Mul, Div, Add, Sub or batch norm holds one value where a Q or DQ of one scale is its neighbour.

    TensorRT merges neighbouring scales, and 8.6 fails where one has a factor per channel and the other a single one.
    """
    neighbour = meets_quantization(graph, node)
    if neighbour is not None:
        message = f"its {scale_size(graph, node)} constants meet the single scale of '{neighbour.name}'"
        yield Finding("violation", "scale-granularity", node.name, message)


def bounds_in_one_unit(graph: Graph, node: Node) -> Iterator[Finding]:
    """A Clip with a bound other than zero runs inside an integer convolution, or meets no Q and no DQ.

    TensorRT moves Q and DQ over it, and 8.6 then takes the bounds for steps of the quantizer.
    """
    neighbour = meets_quantizer(graph, node)
    if neighbour is not None:
        message = f"its bounds would be taken for steps of '{neighbour.name}', which TensorRT moves over it"
        yield Finding("violation", "clip-bounds", node.name, message)


RULES: tuple[Rule, ...] = (
    symmetric_int8,
    one_scale_per_activation,
    stored_integers,
    whole_linear,
    whole_add,
    integer_output,
    readers_take_integers,
    activation_inside,
    whole_depthwise,
    enough_channels,
    one_granularity,
    bounds_in_one_unit,
)


def is_dequantized(graph: Graph, name: str) -> bool:
    """Whether a tensor comes from a DequantizeLinear."""
    producer = graph.producer.get(name)
    return producer is not None and producer.op == "DequantizeLinear"


def gives_floats(graph: Graph, node: Node) -> bool:
    """Whether a depthwise convolution of dequantized values has a reader other than a QuantizeLinear."""
    if node.op != "Conv" or not all(is_dequantized(graph, name) for name in node.inputs[:2]):
        return False
    if int(node.attributes.get("group", 1)) == 1 or graph.shapes[node.inputs[1]][1] != 1:
        return False
    written = graph.end(node, ABSORBED)
    readers = graph.consumers.get(written, ())
    return written in graph.outputs or any(reader.op != "QuantizeLinear" for reader in readers)


def _fuses_with_add(graph: Graph, name: str) -> bool:
    """The output of a convolution that nobody else reads."""
    producer = graph.producer.get(name)
    return producer is not None and producer.op == "Conv" and graph.only_consumer(name) is not None
