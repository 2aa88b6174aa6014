"""Rules of the operators with weights: Conv, Gemm, and HardSigmoid, which is one in int8."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.targets.tflite.graph import Array, Node, Quantization
from edgec.targets.tflite.integer import bias_dtype, integer_bias, real_bias
from edgec.targets.tflite.lowering import FUSED, Lowering
from edgec.targets.tflite.padding import padded
from edgec.targets.tflite.window import window_of
from edgec.targets.tflite.writer import FULLY_CONNECTED_OF_ROWS, TRANSPOSE_CONV_ACTIVATED, B, schema


def conv(to: Lowering, node: Node) -> None:
    """CONV_2D with weights (O, H, W, I / groups); DEPTHWISE_CONV_2D with (1, H, W, O) where a group has one channel."""
    group = int(node.attributes.get("group", 1))
    depthwise = group > 1 and to.shape(node.inputs[1])[1] == 1
    order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
    weights, bias = _weights(to, node, lambda w: w.transpose(order), axis)
    window = window_of(to.graph, node)
    padding, source = padded(to, node, window)
    fields = {
        "padding": padding,
        "strideH": window.strides[0],
        "strideW": window.strides[1],
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
        "fusedActivationFunction": FUSED[node.activation],
    }
    if depthwise:
        multiplier = to.shape(node.output)[1] // group
        options = schema.DepthwiseConv2DOptionsT(depthMultiplier=multiplier, **fields)
        to.emit(B.DEPTHWISE_CONV_2D, [source, weights, bias], node.output, options)
    else:
        to.emit(B.CONV_2D, [source, weights, bias], node.output, schema.Conv2DOptionsT(**fields))


def conv_transpose(to: Lowering, node: Node) -> None:
    """TRANSPOSE_CONV with weights (O, H, W, I), over the whole reach of the windows; a SLICE takes off the pads."""
    weights, bias = _weights(to, node, lambda w: w.transpose(0, 2, 3, 1), 0)
    n, channels, height, width = to.shape(node.output)
    window, size = window_of(to.graph, node), to.shape(node.inputs[0])[2:]
    reach = [(size[i] - 1) * window.strides[i] + window.kernel[i] for i in (0, 1)]
    whole = (n, *reach, channels)
    cut = whole != (n, height, width, channels)
    result = to.scratch(node.output, "whole", whole) if cut else to.activation(node.output)
    shape = to.indices(f"{node.output}/reach", whole)
    options = schema.TransposeConvOptionsT(
        padding=schema.Padding.VALID,
        strideH=window.strides[0],
        strideW=window.strides[1],
        fusedActivationFunction=FUSED[node.activation],
    )
    inputs = [shape, weights, to.activation(node.inputs[0]), bias]
    to.emit(B.TRANSPOSE_CONV, inputs, result, options, TRANSPOSE_CONV_ACTIVATED if node.activation else None)
    if cut:
        begin = to.indices(f"{node.output}/begin", (0, window.pads[0], window.pads[1], 0))
        taken = to.indices(f"{node.output}/size", (n, height, width, channels))
        to.emit(B.SLICE, [result, begin, taken], node.output, schema.SliceOptionsT())


def gemm(to: Lowering, node: Node) -> None:
    """FULLY_CONNECTED with weights (O, I), or the same as a convolution over one pixel for each row."""
    if to.options.gemm == "convolution" and to.note(node.output):
        return _gemm_as_convolution(to, node)
    weights, bias = _weights(to, node, lambda w: w, 0)
    note, rows = to.note(node.inputs[1]), len(to.shape(node.output)) > 2
    options = schema.FullyConnectedOptionsT(fusedActivationFunction=FUSED[node.activation], keepNumDims=rows)
    version = FULLY_CONNECTED_OF_ROWS if rows or (note and len(note.scale) > 1) else None
    return to.emit(B.FULLY_CONNECTED, [to.activation(node.inputs[0]), weights, bias], node.output, options, version)


def mat_mul(to: Lowering, node: Node) -> None:
    """BATCH_MATMUL."""
    inputs = [to.activation(name) for name in node.inputs]
    to.emit(B.BATCH_MATMUL, inputs, node.output, schema.BatchMatMulOptionsT())


def _gemm_as_convolution(to: Lowering, node: Node) -> None:
    *rows, channels = to.shape(node.inputs[0])
    whole = (rows[0], int(np.prod(rows[1:])), 1)
    pixel = to.scratch(node.inputs[0], "pixel", (*whole, channels))
    shape = to.indices(f"{node.output}/pixel_shape", (*whole, channels))
    to.emit(B.RESHAPE, [to.activation(node.inputs[0]), shape], pixel, schema.ReshapeOptionsT())
    weights, bias = _weights(to, node, lambda w: w[:, None, None, :], 0)
    result = to.scratch(node.output, "pixel", (*whole, to.shape(node.output)[-1]))
    options = schema.Conv2DOptionsT(
        padding=schema.Padding.VALID, strideH=1, strideW=1, fusedActivationFunction=FUSED[node.activation]
    )
    to.emit(B.CONV_2D, [pixel, weights, bias], result, options)
    flat = to.indices(f"{node.output}/shape", to.shape(node.output))
    to.emit(B.RESHAPE, [result, flat], node.output, schema.ReshapeOptionsT())


def _weights(to: Lowering, node: Node, arranged: Callable[[Array], Array], axis: int) -> tuple[int, int]:
    """Write weights and bias.

    Args:
        arranged: from the ONNX layout to the stored one.
        axis: where the output channels lie after that.
    """
    name = node.inputs[1]
    if to.note(name) is None:
        data = np.ascontiguousarray(arranged(to.graph.tensors[name].values))
        return to.constant(name, data), to.constant(f"{node.output}/bias", real_bias(to.graph, node).astype(np.float32))
    weights, bias = integer_bias(to.graph, node)
    note, source = weights.quantization, to.note(node.inputs[0])
    assert note is not None
    assert source is not None
    steps = tuple(float(np.float32(source.scale[0]) * np.float32(s)) for s in note.scale)
    written = to.constant(name, np.ascontiguousarray(arranged(weights.values)), note, axis)
    return written, to.constant(f"{node.output}/bias", bias, Quantization(steps, 0, 0))


def hard_sigmoid(to: Lowering, node: Node) -> None:
    """clip(alpha * x + beta, 0, 1) that no convolution took in.

    Integers: a 1x1 depthwise convolution whose saturation is the clip, above in int16, where RELU is the one below.
    Float: relu6(6 * (alpha * x + beta)) / 6.
    """
    alpha, beta = (float(node.attributes.get(name, value)) for name, value in (("alpha", 0.2), ("beta", 0.5)))
    source = to.activation(node.inputs[0])
    if note := to.note(node.inputs[0]):
        channels = to.shape(node.output)[1]
        weights, offset = np.full((1, 1, 1, channels), alpha), np.full(channels, beta)
        _depthwise_constant(to, node, source, weights, offset, note, FUSED["RELU" if note.is_wide else None])
        return
    if not np.isclose(6 * alpha, 1.0, rtol=1e-6):
        scaled = to.scratch(node.output, "scaled")
        to.emit(B.MUL, [source, _scalar(to, node, "slope", 6 * alpha)], scaled, schema.MulOptionsT())
        source = scaled
    clipped = to.scratch(node.output, "relu6")
    options = schema.AddOptionsT(fusedActivationFunction=schema.ActivationFunctionType.RELU6)
    to.emit(B.ADD, [source, _scalar(to, node, "offset", 6 * beta)], clipped, options)
    to.emit(B.MUL, [clipped, _scalar(to, node, "sixth", 1 / 6)], node.output, schema.MulOptionsT())


def _scalar(to: Lowering, node: Node, suffix: str, value: float) -> int:
    return to.constant(f"{node.output}/{suffix}", np.array([value], np.float32))


def _depthwise_constant(
    to: Lowering,
    node: Node,
    source: int,
    weights: Array,
    offset: Array,
    note: Quantization,
    activation: int = FUSED[None],
) -> None:
    """A depthwise convolution with one weight value throughout, VALID; that value is integer 127, exact."""
    scale = float(np.float32(weights.max() / 127))
    step = float(np.float32(note.scale[0]) * np.float32(scale))
    kernel = to.constant(f"{node.output}/weights", np.full(weights.shape, 127, np.int8), Quantization((scale,), 0))
    bias = np.rint(offset / step).astype(bias_dtype(note))
    options = schema.DepthwiseConv2DOptionsT(
        padding=schema.Padding.VALID, strideH=1, strideW=1, depthMultiplier=1, fusedActivationFunction=activation
    )
    constant = to.constant(f"{node.output}/bias", bias, Quantization((step,), 0))
    to.emit(B.DEPTHWISE_CONV_2D, [source, kernel, constant], node.output, options)
