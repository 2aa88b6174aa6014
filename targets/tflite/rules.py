"""One lowering rule for each ONNX operator (``RULES``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgec.targets.tflite.convolution import conv, conv_transpose, gemm, hard_sigmoid, mat_mul
from edgec.targets.tflite.fuse import pad_amounts, pad_value
from edgec.targets.tflite.graph import Node
from edgec.targets.tflite.integer import activation_of, clip_bounds, covers, quantized_constant
from edgec.targets.tflite.layer_norm import layer_norm
from edgec.targets.tflite.layout import stored_axis
from edgec.targets.tflite.lookup import lookup
from edgec.targets.tflite.lowering import FUSED, Lowering, stored_shape
from edgec.targets.tflite.pooling import average_pool, largest, max_pool, mean
from edgec.targets.tflite.resize import matching_conventions
from edgec.targets.tflite.shapes import arg_max, cast, channel_shuffle, gather, relayout, reshape, slice_, transpose
from edgec.targets.tflite.writer import B, schema

MICRO_OPERANDS = 10
"""``kMaxInputNum`` of TFLite Micro's CONCATENATION, which refuses more without a word of why."""

Rule = Callable[[Lowering, Node], None]


def binary(code: int, options: Any) -> Rule:
    """ADD, MUL or SUB, one side possibly a constant that broadcasts."""

    def rule(to: Lowering, node: Node) -> None:
        inputs = [_operand(to, name, node) for name in node.inputs]
        fields = {"fusedActivationFunction": FUSED[node.activation]}
        if code in (B.ADD, B.SUB) and (note := to.note(node.output)) and note.is_wide:
            fields["potScaleInt16"] = False
        to.emit(code, inputs, node.output, options(**fields))

    return rule


def _operand(to: Lowering, name: str, node: Node) -> int:
    tensor = to.graph.tensors[name]
    if tensor.data is None:
        return to.activation(name)
    if note := to.note(node.output):
        tensor = quantized_constant(tensor, note.dtype)
    data = np.asarray(tensor.data)
    output = to.graph.tensors[node.output]
    if len(output.shape) == 4 and output.channels_last and data.size > 1:
        data = data.reshape([1] * (4 - data.ndim) + list(data.shape)).transpose(0, 2, 3, 1)
    return to.constant(name, np.ascontiguousarray(np.atleast_1d(data)), tensor.quantization)


def clip(to: Lowering, node: Node) -> None:
    """Relu and Clip on their own.

    In int8 a QUANTIZE to the range that starts where the clip starts is the same function, and XNNPACK has it, while it
    has no int8 RELU. Bounds that no activation has are MAXIMUM and MINIMUM with a constant.
    """
    source, note, bounds = to.activation(node.inputs[0]), to.note(node.output), clip_bounds(to.graph, node)
    assert bounds is not None
    if note and covers(note, *bounds):
        return to.emit(B.QUANTIZE, [source], node.output, schema.QuantizeOptionsT())
    if activation := activation_of(to.graph, node):
        return to.emit(getattr(B, activation), [source], node.output)
    ends = [(B.MAXIMUM, bounds[0]), (B.MINIMUM, bounds[1])]
    steps = [(code, bound) for code, bound in ends if np.isfinite(bound)]
    for place, (code, bound) in enumerate(steps):
        limit = _constant_like(to, node, f"bound{place}", bound)
        last = place == len(steps) - 1
        result = to.activation(node.output) if last else to.scratch(node.output, "clipped")
        to.emit(code, [source, limit], result, schema.MaximumMinimumOptionsT())
        source = result
    return None


def _constant_like(to: Lowering, node: Node, suffix: str, value: float) -> int:
    """One value at the output's own scale."""
    note, data = to.note(node.output), np.array([value], np.float32)
    if note:
        data = note.integers(data)
    return to.constant(f"{node.output}/{suffix}", data, note)


def leaky_relu(to: Lowering, node: Node) -> None:
    """LEAKY_RELU."""
    options = schema.LeakyReluOptionsT(alpha=float(node.attributes.get("alpha", 0.01)))
    to.emit(B.LEAKY_RELU, [to.activation(node.inputs[0])], node.output, options)


def prelu(to: Lowering, node: Node) -> None:
    """PRELU with a slope for each channel."""
    inputs = [to.activation(node.inputs[0]), _operand(to, node.inputs[1], node)]
    to.emit(B.PRELU, inputs, node.output)


def unary(code: int, options: Any = None) -> Rule:
    """An operator without settings of its own."""

    def rule(to: Lowering, node: Node) -> None:
        to.emit(code, [to.activation(node.inputs[0])], node.output, options() if options else None)

    return rule


def softmax(to: Lowering, node: Node) -> None:
    """SOFTMAX over the last stored axis."""
    to.emit(B.SOFTMAX, [to.activation(node.inputs[0])], node.output, schema.SoftmaxOptionsT(beta=1.0))


def concat(to: Lowering, node: Node) -> None:
    """CONCATENATION along the stored axis; TFLite Micro joins ten at a time."""
    output, along = to.graph.tensors[node.output], int(node.attributes["axis"])
    axis = stored_axis(output, along)
    options = schema.ConcatenationOptionsT(axis=axis)
    parts = [(_operand(to, name, node), to.graph.tensors[name].shape[along]) for name in node.inputs]
    while to.options.runtime == "tflite-micro" and len(parts) > MICRO_OPERANDS:
        joined = []
        for start in range(0, len(parts), MICRO_OPERANDS):
            inputs, sides = zip(*parts[start : start + MICRO_OPERANDS], strict=True)
            shape = [*stored_shape(output)]
            shape[axis] = sum(sides)
            part = to.scratch(node.output, f"joined{len(parts)}_{start}", shape)
            to.emit(B.CONCATENATION, inputs, part, options)
            joined.append((part, sum(sides)))
        parts = joined
    to.emit(B.CONCATENATION, [part for part, _ in parts], node.output, options)


def resize(to: Lowering, node: Node) -> None:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR with the corner convention that picks the same pixels.

    Of one pixel both make the same, and XNNPACK has the first alone.
    """
    convention = matching_conventions(to.graph, node)[0]
    size = to.indices(f"{node.output}/size", to.shape(node.output)[2:])
    inputs = [to.activation(node.inputs[0]), size]
    fields = {"alignCorners": convention.align_corners, "halfPixelCenters": convention.half_pixel}
    one_pixel = to.graph.tensors[node.inputs[0]].shape[2:] == (1, 1)
    if one_pixel or node.attributes.get("mode", "nearest") == "linear":
        to.emit(B.RESIZE_BILINEAR, inputs, node.output, schema.ResizeBilinearOptionsT(**fields))
    else:
        to.emit(B.RESIZE_NEAREST_NEIGHBOR, inputs, node.output, schema.ResizeNearestNeighborOptionsT(**fields))


def pad(to: Lowering, node: Node) -> None:
    """PAD with zero, PADV2 with any other value."""
    amounts = pad_amounts(to.graph, node) or []
    half = len(amounts) // 2
    order = (0, 2, 3, 1) if half == 4 and to.graph.tensors[node.output].channels_last else range(half)
    table = to.indices(f"{node.output}/pads", [[amounts[axis], amounts[axis + half]] for axis in order])
    value = pad_value(to.graph, node)
    inputs = [to.activation(node.inputs[0]), table]
    if value == 0:
        return to.emit(B.PAD, inputs, node.output, schema.PadOptionsT())
    inputs.append(_constant_like(to, node, "value", value))
    return to.emit(B.PADV2, inputs, node.output, schema.PadV2OptionsT())


def requantize(to: Lowering, node: Node) -> None:
    """QUANTIZE from one scale, or from int16, to another: the model gives one tensor two quantizations."""
    to.emit(B.QUANTIZE, [to.activation(node.inputs[0])], node.output, schema.QuantizeOptionsT())


RULES: dict[str, Rule] = {
    "Add": binary(B.ADD, schema.AddOptionsT),
    "ArgMax": arg_max,
    "AveragePool": average_pool,
    "Cast": cast,
    "ChannelShuffle": channel_shuffle,
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Flatten": reshape,
    "Gather": gather,
    "Gemm": gemm,
    "GlobalAveragePool": mean,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": unary(B.HARD_SWISH, schema.HardSwishOptionsT),
    "LayerNormalization": layer_norm,
    "LeakyRelu": leaky_relu,
    "Lookup": lookup,
    "LpNormalization": unary(B.L2_NORMALIZATION, schema.L2NormOptionsT),
    "MatMul": mat_mul,
    "MaxPool": max_pool,
    "Mul": binary(B.MUL, schema.MulOptionsT),
    "PRelu": prelu,
    "Pad": pad,
    "QuantizeLinear": requantize,
    "ReduceMax": largest,
    "ReduceMean": mean,
    "Relayout": relayout,
    "Relu": clip,
    "Reshape": reshape,
    "Resize": resize,
    "Sigmoid": unary(B.LOGISTIC),
    "Slice": slice_,
    "Softmax": softmax,
    "Squeeze": reshape,
    "Sub": binary(B.SUB, schema.SubOptionsT),
    "Tanh": unary(B.TANH),
    "Transpose": transpose,
    "Unsqueeze": reshape,
}
