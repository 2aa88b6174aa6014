"""One lowering rule for each ONNX operator (``RULES``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgec.targets.tflite.convolution import conv, gemm, hard_sigmoid
from edgec.targets.tflite.fuse import pad_amounts, pad_value
from edgec.targets.tflite.graph import Node
from edgec.targets.tflite.integer import activation_of, clip_bounds, covers, quantized_constant
from edgec.targets.tflite.lowering import FUSED, Lowering, stored_shape
from edgec.targets.tflite.pooling import average_pool, max_pool, mean
from edgec.targets.tflite.resize import matching_conventions
from edgec.targets.tflite.writer import B, schema

Rule = Callable[[Lowering, Node], None]


def binary(code: int, options: Any) -> Rule:
    """ADD or MUL, one side possibly a constant that broadcasts."""

    def rule(to: Lowering, node: Node) -> None:
        inputs = [_operand(to, name, node) for name in node.inputs]
        to.emit(code, inputs, node.output, options(fusedActivationFunction=FUSED[node.activation]))

    return rule


def _operand(to: Lowering, name: str, node: Node) -> int:
    tensor = to.graph.tensors[name]
    if tensor.data is None:
        return to.activation(name)
    if to.note(node.output):
        tensor = quantized_constant(tensor)
    data = np.asarray(tensor.data)
    output = to.graph.tensors[node.output]
    if len(output.shape) == 4 and output.channels_last and data.size > 1:
        data = data.reshape([1] * (4 - data.ndim) + list(data.shape)).transpose(0, 2, 3, 1)
    return to.constant(name, np.ascontiguousarray(np.atleast_1d(data)), tensor.quantization)


def clip(to: Lowering, node: Node) -> None:
    """Relu and Clip on their own.

    In int8 a QUANTIZE to the range that starts where the clip starts is the same function, and XNNPACK has it, while it
    has no int8 RELU.
    """
    source, note, bounds = to.activation(node.inputs[0]), to.note(node.output), clip_bounds(to.graph, node)
    if note and bounds and covers(note, *bounds):
        return to.emit(B.QUANTIZE, [source], node.output, schema.QuantizeOptionsT())
    return to.emit(getattr(B, str(activation_of(to.graph, node))), [source], node.output)


def hard_swish(to: Lowering, node: Node) -> None:
    """HARD_SWISH: float graphs, and int8 boards that want it native."""
    to.emit(B.HARD_SWISH, [to.activation(node.inputs[0])], node.output, schema.HardSwishOptionsT())


def sigmoid(to: Lowering, node: Node) -> None:
    """LOGISTIC."""
    to.emit(B.LOGISTIC, [to.activation(node.inputs[0])], node.output)


def softmax(to: Lowering, node: Node) -> None:
    """SOFTMAX over the last stored axis."""
    to.emit(B.SOFTMAX, [to.activation(node.inputs[0])], node.output, schema.SoftmaxOptionsT(beta=1.0))


def concat(to: Lowering, node: Node) -> None:
    """CONCATENATION along the stored axis."""
    tensor = to.graph.tensors[node.output]
    rank = len(tensor.shape)
    axis = int(node.attributes["axis"]) % rank
    if rank == 4 and tensor.channels_last:
        axis = (0, 3, 1, 2)[axis]
    inputs = [_operand(to, name, node) for name in node.inputs]
    to.emit(B.CONCATENATION, inputs, node.output, schema.ConcatenationOptionsT(axis=axis))


def resize(to: Lowering, node: Node) -> None:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR with the corner convention that picks the same pixels."""
    convention = matching_conventions(to.graph, node)[0]
    size = to.indices(f"{node.output}/size", to.shape(node.output)[2:])
    inputs = [to.activation(node.inputs[0]), size]
    fields = {"alignCorners": convention.align_corners, "halfPixelCenters": convention.half_pixel}
    if node.attributes.get("mode", "nearest") == "linear":
        to.emit(B.RESIZE_BILINEAR, inputs, node.output, schema.ResizeBilinearOptionsT(**fields))
    else:
        to.emit(B.RESIZE_NEAREST_NEIGHBOR, inputs, node.output, schema.ResizeNearestNeighborOptionsT(**fields))


def pad(to: Lowering, node: Node) -> None:
    """PAD with zero, PADV2 with any other value."""
    amounts = pad_amounts(to.graph, node) or []
    half = len(amounts) // 2
    order = (0, 2, 3, 1) if half == 4 and to.graph.tensors[node.output].channels_last else range(half)
    table = to.indices(f"{node.output}/pads", [[amounts[axis], amounts[axis + half]] for axis in order])
    value, note = pad_value(to.graph, node), to.note(node.output)
    inputs = [to.activation(node.inputs[0]), table]
    if value == 0:
        return to.emit(B.PAD, inputs, node.output, schema.PadOptionsT())
    data = np.array([value], np.float32)
    if note:
        data = np.clip(np.rint(data / note.scale[0]) + note.zero_point, -128, 127).astype(np.int8)
    inputs.append(to.constant(f"{node.output}/value", data, note))
    return to.emit(B.PADV2, inputs, node.output, schema.PadV2OptionsT())


def reshape(to: Lowering, node: Node) -> None:
    """RESHAPE to the stored shape of the output."""
    shape = stored_shape(to.graph.tensors[node.output])
    inputs = [to.activation(node.inputs[0]), to.indices(f"{node.output}/shape", shape)]
    to.emit(B.RESHAPE, inputs, node.output, schema.ReshapeOptionsT(newShape=np.asarray(shape, np.int32)))


def transpose(to: Lowering, node: Node) -> None:
    """The Transpose that the model asks for, from the stored order; RESHAPE where the stored order is it already."""
    source = to.graph.tensors[node.inputs[0]]
    rank = len(source.shape)
    wanted = [int(axis) for axis in node.attributes.get("perm", range(rank)[::-1])]
    stored = (0, 2, 3, 1) if rank == 4 and source.channels_last else tuple(range(rank))
    order = [stored.index(axis) for axis in wanted]
    if order == list(range(rank)):
        return reshape(to, node)
    inputs = [to.activation(node.inputs[0]), to.indices(f"{node.output}/order", order)]
    return to.emit(B.TRANSPOSE, inputs, node.output, schema.TransposeOptionsT())


def arg_max(to: Lowering, node: Node) -> None:
    """ARG_MAX with int32 indices."""
    source = to.graph.tensors[node.inputs[0]]
    rank = len(source.shape)
    axis = int(node.attributes.get("axis", 0)) % rank
    if rank == 4 and source.channels_last:
        axis = (0, 3, 1, 2)[axis]
    inputs = [to.activation(node.inputs[0]), to.indices(f"{node.output}/axis", [axis])]
    to.emit(B.ARG_MAX, inputs, node.output, schema.ArgMaxOptionsT(outputType=schema.TensorType.INT32))


def requantize(to: Lowering, node: Node) -> None:
    """QUANTIZE from one int8 scale to another: the model gives one tensor two quantizations."""
    to.emit(B.QUANTIZE, [to.activation(node.inputs[0])], node.output, schema.QuantizeOptionsT())


RULES: dict[str, Rule] = {
    "Add": binary(B.ADD, schema.AddOptionsT),
    "ArgMax": arg_max,
    "AveragePool": average_pool,
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "Flatten": reshape,
    "Gemm": gemm,
    "GlobalAveragePool": mean,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "MaxPool": max_pool,
    "Mul": binary(B.MUL, schema.MulOptionsT),
    "Pad": pad,
    "QuantizeLinear": requantize,
    "Relu": clip,
    "Reshape": reshape,
    "Resize": resize,
    "Sigmoid": sigmoid,
    "Softmax": softmax,
    "Squeeze": reshape,
    "Transpose": transpose,
    "Unsqueeze": reshape,
}
