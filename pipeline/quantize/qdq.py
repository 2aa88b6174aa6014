"""Writes a plan into the model as explicit Q/DQ pairs: the one quantized source of truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx

from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.network.opset import to_opset
from edgec.pipeline.quantize.affine import Array, QuantParams
from edgec.pipeline.quantize.plan import Plan, is_linear

OPSET_OF_16_BITS, IR_OF_16_BITS = 21, 10


def insert_qdq(graph: Graph, plan: Plan) -> onnx.ModelProto:
    """Return the QDQ model.

    Activations get one Q -> DQ pair each, read by all consumers. Weights become int8 initializers with a
    DequantizeLinear, biases int32 initializers of scale ``input_scale * weight_scale`` and zero_point 0. Integers of 16
    bits exist from opset 21 on: only a file with such is written in it.
    """
    constants: dict[str, Array] = {}
    nodes: list[Node] = []
    for name in graph.inputs:
        if name in plan.activations:
            nodes.extend(_pair(name, name, _dequantized(name), plan.activations[name], constants))
    for node in graph.nodes:
        renamed, stored = _renamed(graph, plan, node, constants)
        nodes.extend(stored)
        nodes.append(renamed)
        for name in node.outputs:
            if name in plan.activations:
                inner, outer = _names(graph, name)
                nodes.extend(_pair(name, inner, outer, plan.activations[name], constants))
    model = graph.with_nodes(nodes, constants).write()
    return in_16_bits(model) if any(params.dtype == "int16" for params in plan.activations.values()) else model


def in_16_bits(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in the oldest opset that has integers of 16 bits."""
    converted = to_opset(model, OPSET_OF_16_BITS)
    converted.ir_version = max(converted.ir_version, IR_OF_16_BITS)
    return converted


def _names(graph: Graph, name: str) -> tuple[str, str]:
    """What the producer writes and what consumers read; a network output keeps its name on the outside."""
    return (f"{name}.float", name) if name in graph.outputs else (name, _dequantized(name))


def _dequantized(name: str) -> str:
    return f"{name}.dequantized"


def _renamed(graph: Graph, plan: Plan, node: Node, constants: dict[str, Array]) -> tuple[Node, list[Node]]:
    """The node reading dequantized tensors, and the DequantizeLinear nodes of its own constants."""
    stored: list[Node] = []
    inputs = list(node.inputs)
    for index, name in enumerate(node.inputs):
        if name in plan.activations:
            inputs[index] = _names(graph, name)[1]
        elif name in plan.weights:
            params = plan.weights[name]
            inputs[index] = _dequantized(f"{node.name}.{index}")
            stored.append(_stored(name, params.quantize(graph.constants[name]), params, inputs[index], constants))
    bias = bias_params(plan, node) if is_linear(graph, node) else None
    if bias is not None:
        name = node.inputs[2]
        inputs[2] = _dequantized(f"{node.name}.2")
        stored.append(_stored(name, bias.quantize(graph.constants[name]), bias, inputs[2], constants))
    outputs = tuple(_names(graph, name)[0] if name in plan.activations else name for name in node.outputs)
    return replace(node, inputs=tuple(inputs), outputs=outputs), stored


def bias_params(plan: Plan, node: Node) -> QuantParams | None:
    """Int32 parameters of a linear node's bias, or ``None`` without a bias or in float."""
    if len(node.inputs) < 3 or not node.inputs[2] or node.inputs[1] not in plan.weights:
        return None
    scale = bias_scale(plan.activations[node.inputs[0]], plan.weights[node.inputs[1]])
    limit = 2**31 - 1
    return QuantParams(scale, np.zeros(scale.shape, np.int32), -limit, limit, "int32", 0 if scale.ndim else None)


def bias_scale(source: QuantParams, weight: QuantParams) -> Array:
    """``input_scale * weight_scale``; a per-channel input (depthwise) is repeated for a channel multiplier."""
    factor = source.scale
    if factor.ndim and weight.scale.ndim:
        factor = np.repeat(factor, weight.scale.size // factor.size)
    return (factor * weight.scale).astype(np.float32)


def _pair(name: str, source: str, result: str, params: QuantParams, constants: dict[str, Array]) -> Iterator[Node]:
    constants[f"{name}.scale"] = params.scale
    constants[f"{name}.zero_point"] = params.zero_point.astype(params.dtype)
    axis = {} if params.axis is None else {"axis": params.axis}
    quantized = f"{name}.quantized"
    parameters = (f"{name}.scale", f"{name}.zero_point")
    yield Node("QuantizeLinear", (source, *parameters), (quantized,), axis, quantized)
    yield Node("DequantizeLinear", (quantized, *parameters), (result,), axis, _dequantized(name))


def _stored(name: str, values: Array, params: QuantParams, result: str, constants: dict[str, Array]) -> Node:
    constants[f"{name}.quantized"] = values
    constants[f"{name}.scale"] = params.scale
    constants[f"{name}.zero_point"] = params.zero_point.astype(params.dtype)
    axis = {} if params.axis is None else {"axis": params.axis}
    inputs = (f"{name}.quantized", f"{name}.scale", f"{name}.zero_point")
    return Node("DequantizeLinear", inputs, (result,), axis, result)
